"""Facts that the package ships: held-out text, recorded runs, public hardware and models."""
