"""Conformance of one component, named on pytest's command line: ``--cvx-component``."""
