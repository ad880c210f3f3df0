"""Process: its share of the cores, its forks, its children's end."""
