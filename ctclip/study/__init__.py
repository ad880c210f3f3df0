"""Many controlled runs compared: a grid of arms and seeds, its statistics, its page (README.md, "Studies")."""
