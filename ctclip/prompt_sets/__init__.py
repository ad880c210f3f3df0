"""The project's own prompts, one JSON file per set of findings; ctclip.texts.prompts reads them."""
