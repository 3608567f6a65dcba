"""vlret: which vision-language encoder retrieves the passage that answers a question about an image?"""

__version__ = "0.1.0"
