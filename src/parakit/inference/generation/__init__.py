"""Text generation: sampling, cached decoding, beam search, encoder-decoders, streaming.

`decoding` and `seq_to_seq` work on ids; `text` adds the tokenizer, chat templates and stop strings.
"""

__all__: list[str] = []
