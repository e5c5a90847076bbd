"""The Transformer from 2017 to today, one change at a time, with the models before it."""
