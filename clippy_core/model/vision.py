"""The image tower: a timm backbone read as a grid of features.

Shapes: B image, H/W pixel, h/w grid, P = h·w location, N prefix token, C trunk channel, D embedding.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import timm
import torch
from timm.layers.patch_dropout import PatchDropout, PatchDropoutWithIndices
from torch import Tensor, nn
from torch.nn import functional as F

from clippy_core.errors import ConfigError
from clippy_core.model.config import VisionConfig


class ImageFeatures(NamedTuple):
    """What the image tower says about a batch.

    Attributes:
        patches_BPD: Features of the grid locations, row by row, not normalised; in no order, and fewer, while
            :meth:`VisionTower.drop_patches` is in effect.
        prefix_BND: Features of prefix tokens (CLS first, then registers); N is 0 for a CNN.
        grid: (h, w), with P = h·w unless patches were dropped.
    """

    patches_BPD: Tensor
    prefix_BND: Tensor
    grid: tuple[int, int]


class VisionTower(nn.Module):
    """A backbone without its classifier, and an optional linear projection.

    Raises:
        ConfigError: timm does not know the backbone or an argument for it, or it yields no grid.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = build_trunk(config)
        self.stride = _stride(self.trunk, config)
        self.prefix_tokens = int(getattr(self.trunk, "num_prefix_tokens", 0) or 0)
        self._reports_kept = getattr(self.trunk, "patch_drop", self.trunk) is None
        self.channels_last_output = getattr(self.trunk, "output_fmt", None) == "NHWC"
        self._seen: dict[str, Tensor] = {}
        for name in config.levels:
            _module(self.trunk, name).register_forward_hook(self._remember(name))
        width = int(self.trunk.num_features) + sum(self._level_widths())  # type: ignore[arg-type]
        self.width = config.projection or width
        self.projection = nn.Linear(width, config.projection, bias=False) if config.projection else nn.Identity()
        if config.pool == "cls" and not self.prefix_tokens:
            raise ConfigError(
                f"vision.pool is 'cls', but backbone {config.backbone!r} has no CLS token; accepted: max, mean"
            )

    def forward(self, pixels_B3HW: Tensor) -> ImageFeatures:
        """Features of a batch of normalised pictures of any size.

        Sizes that are not a multiple of the grid's stride are padded at the right and the bottom with zeros, that is
        with the mean colour; the grid then has ceil(H/stride) × ceil(W/stride) locations.

        Raises:
            ConfigError: A backbone that takes pictures of its own size only, or yields no grid at this one.
        """
        height, width = pixels_B3HW.shape[-2:]
        pad_h, pad_w = -height % self.stride, -width % self.stride
        if pad_h or pad_w:
            pixels_B3HW = F.pad(pixels_B3HW, (0, pad_w, 0, pad_h))
        grid = (height + pad_h) // self.stride, (width + pad_w) // self.stride
        try:
            features = self.trunk.forward_features(pixels_B3HW)  # type: ignore[operator]
        except AssertionError as error:
            # timm says by assertions which sizes a backbone with fixed positions or windows takes.
            raise ConfigError(
                f"backbone {self.config.backbone!r} does not take pictures of {height} × {width} pixels: {error}"
            ) from error
        prefix, patches = self._split(features, grid)
        if self.config.levels:
            prefix, patches = self._join_levels(prefix, patches, grid)
        return ImageFeatures(self.projection(patches), self.projection(prefix), grid)

    def _remember(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self._seen[name] = output

        return hook

    def _join_levels(self, prefix: Tensor, patches: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Features of all levels side by side, each of unit length."""
        prefixes, joined = [prefix], [patches]
        for name in self.config.levels:
            features = self._seen.pop(name)
            if features.ndim == 4 and self.channels_last_output:
                features = F.adaptive_avg_pool2d(features.permute(0, 3, 1, 2), grid).permute(0, 2, 3, 1)
            elif features.ndim == 4:
                features = F.adaptive_avg_pool2d(features, grid)
            level_prefix, level_patches = self._split(features, grid)
            prefixes.append(level_prefix)
            joined.append(level_patches)
        return tuple(
            torch.cat([F.normalize(part.float(), dim=-1) for part in parts], -1) for parts in (prefixes, joined)
        )  # type: ignore[return-value]

    @torch.no_grad()
    def _level_widths(self) -> list[int]:
        """Channels of each level, found by looking at one small picture."""
        if not self.config.levels:
            return []
        side = 2 * self.stride if getattr(self.trunk, "patch_embed", None) is None else self.config.size
        training = self.trunk.training
        self.trunk.eval().forward_features(torch.zeros(1, 3, side, side, device=_device(self.trunk)))  # type: ignore[operator]
        self.trunk.train(training)
        seen = {name: self._seen.pop(name) for name in self.config.levels}
        spatial = {name: features.ndim == 4 and not self.channels_last_output for name, features in seen.items()}
        return [features.shape[1 if spatial[name] else -1] for name, features in seen.items()]

    def _split(self, features: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        if features.ndim == 4:
            patches = features.flatten(1, 2) if self.channels_last_output else features.flatten(2).transpose(1, 2)
            prefix = patches[:, :0]
        else:
            prefix, patches = features[:, : self.prefix_tokens], features[:, self.prefix_tokens :]
        if patches.shape[1] != self._kept(grid[0] * grid[1]):
            raise ConfigError(
                f"backbone {self.config.backbone!r} gave {patches.shape[1]} locations where a "
                f"{grid[0]}×{grid[1]} grid was expected; it does not yield a grid at this size"
            )
        return prefix, patches

    def drop_patches(self, share: float) -> None:
        """In training mode, leave a random ``share`` (0…1) of every picture's patches out before the first block.

        Source: *Perceptual Grouping in Contrastive Vision-Language Models*, section 3.3 (token sub-sampling).

        Raises:
            ConfigError: A backbone that cannot leave patches out.
        """
        if not hasattr(self.trunk, "patch_drop"):
            raise ConfigError(
                f"model.patch_dropout is {share}, but backbone {self.config.backbone!r} cannot leave patches out; "
                "accepted: 0, or a vision transformer of timm"
            )
        # Backbones with rotary positions need to know which patches were kept.
        layer = PatchDropoutWithIndices if self._reports_kept else PatchDropout
        self.trunk.patch_drop = layer(share, num_prefix_tokens=self.prefix_tokens)

    def _kept(self, patches: int) -> int:
        layer = getattr(self.trunk, "patch_drop", None)
        if not self.training or not isinstance(layer, (PatchDropout, PatchDropoutWithIndices)):
            return patches
        return max(1, int(patches * (1 - layer.prob)))

    def pool(self, features: ImageFeatures) -> Tensor:
        """One vector an image, shape (B, D), not normalised: max, mean or CLS, as the configuration says.

        Source: *Perceptual Grouping in Contrastive Vision-Language Models*, section 3 (max over locations).
        """
        if self.config.pool == "cls":
            return features.prefix_BND[:, 0]
        tokens = features.patches_BPD
        if self.config.pool_prefix:
            tokens = torch.cat([features.prefix_BND, tokens], dim=1)
        return tokens.amax(dim=1) if self.config.pool == "max" else tokens.mean(dim=1)


def _module(trunk: nn.Module, name: str) -> nn.Module:
    try:
        return trunk.get_submodule(name)
    except AttributeError as error:
        known = ", ".join(child for child, _ in trunk.named_children())
        raise ConfigError(f"vision.levels names {name!r}, which the backbone has not; its parts: {known}") from error


def _device(trunk: nn.Module) -> torch.device:
    return next(trunk.parameters()).device


def build_trunk(config: VisionConfig, **loading: Any) -> nn.Module:
    """The backbone alone, without a classifier.

    Args:
        config: Which one.
        loading: How timm is to load pretrained weights into it; nothing leaves it as it is initialised.

    Raises:
        ConfigError: timm does not know the backbone or an argument for it.
    """
    arguments: dict[str, Any] = dict(config.trunk_args)
    if config.output_stride is not None:
        arguments["output_stride"] = config.output_stride
    if not timm.is_model(config.backbone.split(".")[0]):
        raise ConfigError(f"vision.backbone is {config.backbone!r}; timm {timm.__version__} knows no such model")
    given = {"num_classes": 0, **arguments, **loading}
    try:
        # Position embeddings that follow the input's size; backbones without such an option do not know the argument.
        return timm.create_model(config.backbone, **{"dynamic_img_size": True, **given})
    except TypeError:
        pass
    try:
        return timm.create_model(config.backbone, **given)
    except (TypeError, ValueError, KeyError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"vision.backbone {config.backbone!r} cannot be built with {arguments}: {reason}") from error


def _stride(trunk: nn.Module, config: VisionConfig) -> int:
    info = getattr(trunk, "feature_info", None)
    if not info:
        raise ConfigError(
            f"vision.backbone {config.backbone!r} does not tell its stride; choose one that yields a grid"
        )
    return int(info[-1]["reduction"])
