"""A trained ROM as programs that run without romvae: `torch.export` archives or ONNX, with a model card."""

from romvae.deployment.folder import export

__all__ = ["export"]
