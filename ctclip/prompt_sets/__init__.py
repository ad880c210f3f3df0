"""The project's own prompts, one JSON file per set of findings; ctclip.prompts reads them."""
