r"""Qwen3-VL-Reranker: how likely the picture of a page is what the words of a query ask for.

The model reads both and is asked to judge:

    <|im_start|>system\n{SYSTEM}<|im_end|>\n
    <|im_start|>user\n<Instruct>: {INSTRUCTION}<Query>:{WORDS}\n<Document>:{VISION}<|im_end|>\n
    <|im_start|>assistant\n

VISION is `<|vision_start|><|image_pad|>…<|vision_end|>`. The score is σ(h · (w_yes − w_no)), how
likely the next token is "yes" rather than "no": h is the state of the last token, w_yes and w_no
are rows of the language model's head.

Source:
    The inference script that its authors published beside the weights. One thing differs: of too
    long a text, what is cut precedes the page.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from embedder.content import Content, Modality
from embedder.hub import HubModel
from embedder.interface import EmbedderError, EmbedderUnavailable
from embedder.mllm import BACKENDS
from embedder.mllm.checkpoint import Checkpoint
from embedder.mllm.families import FILES, QWEN3_VL, Part, conversation, vision
from embedder.mllm.pictures import Picture, patched
from embedder.mllm.settings import Settings
from embedder.mllm.template import Template

if TYPE_CHECKING:
    from torch import Tensor

INSTRUCTION = "Given a search query, retrieve relevant candidates that answer the query."
"""What is to be judged, as published."""

_FRAMES = 2  # of a patch
_SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".'
)


def _layout(
    settings: Settings, pictures: Sequence[Picture], instruction: str, words: str
) -> list[Part]:
    question = f"<Instruct>: {instruction}<Query>:{words}\n<Document>:"
    return conversation(settings.system, [question, *vision(pictures)])


_2B = HubModel(
    "Qwen/Qwen3-VL-Reranker-2B",
    FILES,
    summary="reranks the pages of PDFs (--reranker)",
    megabytes=4_270,
    speed="for a GPU",
    licence="Apache-2.0",
)
_8B = replace(_2B, repository="Qwen/Qwen3-VL-Reranker-8B", megabytes=17_500)

FAMILY = replace(
    QWEN3_VL,
    name="qwen3-vl-reranker",
    title="Qwen3-VL-Reranker",
    models={"": _2B, "2b": _2B, "8b": _8B},
    model_class="Qwen3VLForConditionalGeneration",
    settings=Settings(system=_SYSTEM, image_tokens=(4, 1280), max_tokens=8192, page_text=True),
    layout=_layout,
)
"""What its checkpoints have in common; their settings are fixed."""


def open_reranker(
    argument: str = "", device: str | None = None, dtype: str | None = None
) -> "Qwen3VLReranker":
    """Open a checkpoint; see `embedder.registry.open_reranker`.

    Raises:
        EmbedderUnavailable: it cannot be opened; the message says what to do.
    """
    if missing := BACKENDS[QWEN3_VL.name].missing():  # the same extra
        raise EmbedderUnavailable(missing)
    return Qwen3VLReranker(Checkpoint.find(argument, FAMILY), device, dtype)


class Qwen3VLReranker:
    """A reranker behind `embedder.interface.Reranker`; the weights load on first use.

    Pages are read one by one: each is up to some 1,300 tokens, so that a batch would gain little.

    Args:
        checkpoint: The weights to run.
        device: "cpu", "cuda", "cuda:1", "mps"; None for the best there is.
        dtype: "float32", "bfloat16" or "float16"; None for bfloat16 on CUDA and float32 elsewhere.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: str | None = None, dtype: str | None = None
    ) -> None:
        self._checkpoint = checkpoint
        self._device, self._dtype = device, dtype
        self._lock = threading.Lock()
        self._loaded: tuple[Template, Any, Tensor] | None = None

    def score(self, query: str, page: Content) -> float:
        """See `Reranker.score`."""
        from embedder.mllm.backbone import free_memory, is_out_of_memory

        try:
            with self._lock:
                return self._score(query, page)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler, whose traceback would keep the tensors alive.
        free_memory()
        raise EmbedderError(
            "the reranker does not fit into the memory of the device: use --dtype bfloat16, "
            "another --device, or a smaller model"
        )

    def _score(self, query: str, page: Content) -> float:
        import torch

        template, model, answer = self._load()
        question = Content(query, page.frames, Modality.PAGE, INSTRUCTION)
        sequence = template.sequence(question, "query")
        (picture,), (start,) = sequence.pictures, sequence.starts
        ids = torch.from_numpy(sequence.ids)[None].to(answer.device)
        pixels = torch.from_numpy(patched(picture).patches).to(answer.device).float()
        mean, std = (
            torch.tensor(one, device=answer.device).view(3, 1, 1)
            for one in (self._checkpoint.mean, self._checkpoint.std)
        )
        # A still picture fills both time steps of a patch.
        values = ((pixels / 255 - mean) / std).expand(-1, -1, _FRAMES, -1)
        kinds = torch.zeros_like(ids)  # 1 for the tokens of a picture
        kinds[0, start : start + picture.plan.tokens] = 1
        with torch.inference_mode():
            states = model.model(
                input_ids=ids,
                pixel_values=values.flatten(1),
                image_grid_thw=torch.tensor([[1, *picture.plan.grid]], device=ids.device),
                mm_token_type_ids=kinds,
                use_cache=False,
            ).last_hidden_state
            return torch.sigmoid(states[0, -1].float() @ answer).item()

    def _load(self) -> "tuple[Template, Any, Tensor]":
        """Return the template, the model, and what separates "yes" from "no", (hidden size,)."""
        if self._loaded is None:
            from embedder.mllm.backbone import chosen_device, chosen_dtype, pretrained

            device = chosen_device(self._device)
            tokenizer = self._checkpoint.tokenizer()
            yes, no = (tokenizer.token_to_id(token) for token in ("yes", "no"))
            if yes is None or no is None:
                raise EmbedderUnavailable(
                    f"the tokenizer in {self._checkpoint.directory} is not that of {FAMILY.title}: "
                    f'it has no tokens "yes" and "no"'
                )
            template = Template(tokenizer, FAMILY.settings, FAMILY)
            model = pretrained(self._checkpoint, device, chosen_dtype(self._dtype, device))
            head = model.lm_head.weight.detach()
            self._loaded = template, model, (head[yes] - head[no]).float()
        return self._loaded
