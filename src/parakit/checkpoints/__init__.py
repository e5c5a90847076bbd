"""Model folders on disk, in the Hugging Face layout. The only package that knows other libraries' names of settings and
tensors; nothing here executes code or unpickles. Reading a folder's settings never imports torch.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "load_model": "loading",
        "save_model": "model_folder",
        "parameter_counts": "loading",
        "read_config": "loading",
        "read_head": "loading",
        "import_model": "import_export",
        "export_model": "import_export",
        "is_model_folder": "folder_safety",
        "read_header": "safetensors_io",
        "read_tensors": "safetensors_io",
    },
)

__all__ = [
    "export_model",
    "import_model",
    "is_model_folder",
    "load_model",
    "parameter_counts",
    "read_config",
    "read_head",
    "read_header",
    "read_tensors",
    "save_model",
]
