"""One folder per family of operators; each folder's README.md is its front door."""
