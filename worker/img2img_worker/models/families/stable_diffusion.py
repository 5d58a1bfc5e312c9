"""Stable Diffusion 1.x and 2.x, their 9-channel inpainting checkpoints, and instruct-pix2pix."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from img2img_shared.params import Params
from img2img_worker.models.adapters.hypernetworks import NO_HYPERNETWORKS, Hypernetworks, HypernetworkSet
from img2img_worker.models.adapters.lora import Loras
from img2img_worker.models.adapters.patch import NO_PATCH, Patch
from img2img_worker.models.control.amends import amend_answer
from img2img_worker.models.control.control_nets import ControlNets
from img2img_worker.models.control.image_prompt_rows import ImagePromptLayers
from img2img_worker.models.control.reference_layers import ReferenceLayers
from img2img_worker.models.control.references import ReferenceRows
from img2img_worker.models.control.rows import unet_arguments
from img2img_worker.models.families.autoencoding import Autoencoding
from img2img_worker.models.families.call_graphs import CallGraphs
from img2img_worker.models.families.condition import Condition, Conditions
from img2img_worker.models.families.context_runs import as_context
from img2img_worker.models.families.edge_padding import Padding
from img2img_worker.models.families.family import Prediction
from img2img_worker.models.families.token_merging import TokenMerging
from img2img_worker.models.families.vae import to_unit
from img2img_worker.models.families.vaes import VaeFile
from img2img_worker.models.prompts.prompt_options import DEFAULTS, PromptOptions
from img2img_worker.models.prompts.text_encoder import Encoded, TextEncoder, encode
from img2img_worker.models.prompts.textual_inversion import TextualInversions
from img2img_worker.models.steps import Steps
from img2img_worker.models.transfer import to_device
from img2img_worker.sampling.levels import NoiseLevels

#: channels of the first level in published UNets: SD 1.x, 2.x and XL; XL's refiner
_PUBLISHED = (320, 384)


@dataclass(frozen=True, kw_only=True)
class StableDiffusion(Autoencoding):
    """A UNet, a VAE, and one or two CLIP text models. Implements `Family`."""

    name: str
    dtype: torch.dtype
    noise_levels: NoiseLevels
    prediction: Prediction
    #: diffusers' UNet2DConditionModel, which has no types
    unet: Any
    #: the configuration beside its file (A1111: a checkpoint's config), if it has one
    config_file: str | None = None
    #: one text model, or SDXL's two
    texts: tuple[TextEncoder, ...]
    loras: Loras
    hypernetworks: Hypernetworks
    inversions: TextualInversions
    controls: ControlNets
    #: -1: the network predicts the velocity with the opposite sign
    answer_sign: int = 1
    #: whether an edit checkpoint sees the picture's latent scaled, as CosXL does
    scales_edited: bool = False
    #: whether the UNet is compiled, for rows of equal length
    is_compiled: bool = False

    @cached_property
    def _padding(self) -> Padding:
        return Padding(self.unet)

    @cached_property
    def _merging(self) -> TokenMerging:
        return TokenMerging(self.unet)

    @cached_property
    def _image_prompts(self) -> ImagePromptLayers:
        return ImagePromptLayers(self.unet)

    @cached_property
    def _references(self) -> ReferenceLayers:
        return ReferenceLayers(self.unet)

    @cached_property
    def _whole_sigmas(self) -> Tensor:
        """The sigma of each whole timestep, [N]."""
        return torch.from_numpy(self.noise_levels.sigmas).float().to(self.device)

    @cached_property
    def _graphs(self) -> CallGraphs | None:
        """CUDA graphs of the UNet's calls; None on a CPU, or for a compiled UNet, which has its own."""
        return CallGraphs(self._answer) if self.device.type == "cuda" and not self.is_compiled else None

    @property
    def can_refer(self) -> bool:
        """Whether images can refer to pictures, which get the noise of whole timesteps."""
        return self.noise_levels.has_whole_timesteps

    @property
    def can_match(self) -> bool:
        """Whether images can take over the mean and variance of pictures."""
        return self._references.can_match

    @property
    def native_side(self) -> int:
        cells = self.unet.config.sample_size  # single files do not have it
        if isinstance(cells, int):
            return cells * self.vae_factor
        is_2_v = self.unet.config.use_linear_projection and self.prediction == "v"
        return 1024 if self.is_xl else 768 if is_2_v else 512

    @property
    def is_xl(self) -> bool:
        """Whether it is conditioned on sizes: SDXL and its refiner."""
        return bool(self.unet.config.addition_embed_type == "text_time")

    @property
    def is_xl_refiner(self) -> bool:
        return self.is_xl and len(self.texts) == 1

    @property
    def side_multiple(self) -> int:
        return self.vae_factor

    @property
    def picture_channels(self) -> int:
        """Channels beside the latent: 5 mask and masked latent, 4 (edit) the picture's latent, 0 none."""
        return int(self.unet.config.in_channels) - self.latent_channels

    @property
    def edits(self) -> bool:
        return self.picture_channels == self.latent_channels

    @property
    def configuration(self) -> str | None:
        if self.config_file is not None:
            return self.config_file
        if int(self.unet.config.block_out_channels[0]) not in _PUBLISHED:
            return None  # A1111 has none for it: it would need a configuration file of its own
        # of these, only 2.x' says whether it predicts velocities; XL's have a mark in the checkpoint
        return f"{self.name}, {self.prediction}" if self.name.startswith("SD 2.x") else self.name

    @property
    def inpaints(self) -> bool:
        return self.picture_channels == self.latent_channels + 1

    @property
    def distilled(self) -> bool:
        return False

    def levels(self, latent_size: tuple[int, int]) -> NoiseLevels:
        return self.noise_levels

    def encode_prompts(
        self,
        prompts: Sequence[str],
        *,
        options: PromptOptions = DEFAULTS,
        negative: bool = False,
        loras: Patch = NO_PATCH,
    ) -> Steps[list[Encoded]]:
        steps = encode(self.texts, prompts, options=options, negative=negative)
        return self.loras.texts.during(loras, steps)

    def context_length(self, prompts: Sequence[str], options: PromptOptions) -> int:
        return self.texts[0].length(prompts, options)

    @torch.inference_mode()
    def picture(
        self,
        pixels: Tensor,
        masks: Tensor | None,
        *,
        mask_round: bool = True,
        mask_weight: float = 1.0,
        tiling: bool = False,
        rows: int | None = None,
        vae: VaeFile | None = None,
    ) -> Steps[Tensor | None]:
        if self.picture_channels == 0:
            return None
        image = to_unit(pixels, self.device)
        if self.edits:
            latents = yield from self._vae(vae).encode(image, rows, tiling=tiling)
            # unscaled, as it was trained (Brooks et al. 2023)
            return latents if self.scales_edited else self.vae.unscaled(latents)
        if masks is None:
            mask = image.new_ones(image.shape[0], 1, *image.shape[-2:])
        else:
            mask = masks.to(self.device)[:, None].float() / 255
            mask = mask.round() if mask_round else mask
        seen = image * (1 - mask_weight * mask)
        masked = yield from self._vae(vae).encode(seen, rows, tiling=tiling)
        return torch.cat([F.interpolate(mask, size=masked.shape[-2:]), masked], dim=1)

    def condition(
        self,
        text: Encoded,
        params: Params,
        *,
        picture: Tensor | None = None,
        patch: Patch = NO_PATCH,
        hypernetworks: HypernetworkSet = NO_HYPERNETWORKS,
    ) -> Condition:
        # cast once, not in every call
        tensors = {"context": text.context.to(self.dtype)}
        if text.pooled is not None:
            height, width = params.height, params.width
            crop = (params.sdxl_crop_top, params.sdxl_crop_left)
            high, low = params.sdxl_refiner_high_aesthetic_score, params.sdxl_refiner_low_aesthetic_score
            last = [low if text.is_negative else high] if self.is_xl_refiner else [height, width]
            sizes = torch.tensor([height, width, *crop, *last], dtype=torch.float32)
            tensors |= {"pooled": text.pooled.to(self.dtype), "time_ids": to_device(sizes, self.device)}
        if picture is not None:
            tensors["concat"] = picture
        length = len(text.context) if self.is_compiled else None
        condition = Condition(
            tensors=tensors,
            patch=patch,
            tiling=params.tiling,
            hypernetworks=hypernetworks,
            merge_ratio=params.token_merging_ratio,
        )
        return replace(condition, shares=(*condition.changes, length))

    @torch.inference_mode()
    def predict(self, x: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        self._change_layers(conditions, cells=(x.shape[-2], x.shape[-1]))
        given = conditions.tensors
        added = None
        if "pooled" in given:
            added = {"text_embeds": given["pooled"], "time_ids": given["time_ids"]}
        latents = x.to(self.dtype)
        controls = unet_arguments(conditions.controls, latents, t, added)
        if "concat" in given:
            latents = torch.cat([x, given["concat"]], dim=1).to(self.dtype)
        # graphs do not know what was put into the UNet after they were recorded
        changes = (
            conditions.hypernetworks.networks,
            conditions.merge_ratio,
            conditions.image_prompts,
            conditions.references,
        )
        eager = self.is_compiled and any(changes)
        show = partial(self._show, t=t, added=added)
        # timesteps stay float32: the UNet takes their sines before it casts to its own precision
        arguments = {
            "latents": latents,
            "t": t,
            "encoder_hidden_states": as_context(conditions.runs),
            "added_cond_kwargs": added,
            **controls,
        }
        table = self.loras.denoiser.table
        if table is not None:
            arguments["row_products"] = (table.places, table.scales)
        with (
            torch.compiler.set_stance("force_eager") if eager else nullcontext(),
            self._references.referring(conditions.references, len(x), show),
        ):
            if self._graphs is None or any(changes) or self.loras.denoiser.changes_layers:
                answer = self._answer(**arguments)
            else:
                answer = self._graphs.call((conditions.tiling, table and table.kind), arguments)
        # always a copy: a graph writes its next answer to the same place
        answer = answer.to(torch.float32, copy=True)
        for row, amend in conditions.amends:
            answer[row] = amend_answer(amend, x[row], t[row], answer[row])
        return answer if self.answer_sign == 1 else -answer

    def _change_layers(self, conditions: Conditions, *, cells: tuple[int, int]) -> None:
        """Change the UNet from what the last call's rows needed to what these need."""
        self.loras.denoiser.apply(conditions.patch, conditions.row_patches)
        self._padding.apply(circular=conditions.tiling)
        beside = [each.network.network for each in conditions.controls]
        self.hypernetworks.apply(conditions.hypernetworks, *beside)
        self._merging.apply(conditions.merge_ratio)
        self._image_prompts.apply(conditions.image_prompts, cells)

    def _answer(
        self, latents: Tensor, t: Tensor, row_products: tuple[Tensor, Tensor] | None = None, **more: Any
    ) -> Tensor:
        if row_products is not None:
            self.loras.denoiser.give(*row_products)
        answer: Tensor = self.unet(latents, t, **more, return_dict=False)[0]
        return answer

    def _show(self, references: ReferenceRows, *, t: Tensor, added: dict[str, Tensor] | None) -> None:
        """Run the UNet for the pictures that some rows refer to; t and `added` are those of all rows."""
        t = references.chosen(t)
        seen = references.noised(self._whole_sigmas, t)
        if self.inpaints:  # with a mask by which nothing is repainted
            seen = torch.cat([seen, torch.zeros_like(seen[:, :1]), references.origins], dim=1)
        if added is not None:
            added = {name: references.chosen(each) for name, each in added.items()}
        self.unet(
            seen.to(self.dtype),
            t,
            encoder_hidden_states=as_context(references.runs),
            added_cond_kwargs=added,
            return_dict=False,
        )

    def free_memory(self) -> None:
        if self._graphs is not None:
            self._graphs.forget()
