"""Language models: plain Hugging Face folders in and out."""
