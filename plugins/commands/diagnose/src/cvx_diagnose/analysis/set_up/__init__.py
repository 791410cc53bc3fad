"""Set-up of a run: whether classes, inputs and labels are what the network was made for."""
