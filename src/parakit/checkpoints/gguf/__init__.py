"""GGUF files, llama.cpp's format of one file a model: read, dequantized and converted to a Hugging Face folder."""
