"""The studio: pages in a browser to chat with models, look into them, rate their answers and train them."""
