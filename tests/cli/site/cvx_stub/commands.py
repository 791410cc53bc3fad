"""Two commands."""

import click


@click.command()
@click.argument("word")
def command(word: str) -> int:
    """Print a word, and end with 7."""
    click.echo(word)
    return 7


@click.command()
def crash() -> None:
    """Divide by zero."""
    print(1 / 0)
