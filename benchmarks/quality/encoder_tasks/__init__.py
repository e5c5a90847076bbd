"""SST-2 and CoLA with a pre-trained encoder, the same encoder without pre-training, and a bag of words."""
