"""What a person touches: command line, accessor, progress, report, demo."""
