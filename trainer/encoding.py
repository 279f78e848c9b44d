"""Contents to embeddings that gradients flow through: what training has in place of an embedder."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from embedder.content import Content, Role
from embedder.rzen.backbone import Backbone
from embedder.rzen.pictures import Patched, patched
from embedder.rzen.template import Template, TokenSequence


@dataclass(frozen=True, eq=False, slots=True)
class Prepared:
    """A content as the model takes it; made in other threads, since it needs no model.

    Attributes:
        sequence: Its tokens.
        pictures: What stands in the places of its pictures.
    """

    sequence: TokenSequence
    pictures: tuple[Patched, ...]

    def __len__(self) -> int:
        return len(self.sequence)


def prepared(template: Template, content: Content, role: Role) -> Prepared:
    """Tokens and patches of a content.

    Raises:
        Unfit: it cannot be put into a sequence.
    """
    sequence = template.sequence(content, role)
    return Prepared(sequence, tuple(patched(one.frame, one.plan) for one in sequence.pictures))


class Encoder(nn.Module):
    """Prepared contents to unit vectors, as the embedder computes them.

    Its vectors are those of `embedder.rzen.RzenEmbedder` on the same weights: the same backbone
    runs in both, so there is nothing that training and serving could do differently.

    Args:
        backbone: A Qwen2-VL, possibly with adapters in it.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, contents: Sequence[Prepared]) -> Tensor:
        """Embeds a chunk.

        Args:
            contents: At least one; padded to the longest, so chunks of about the same length
                cost least.

        Returns:
            Float32 tensor (len(contents), dim) with unit rows.
        """
        pictures = [picture for content in contents for picture in content.pictures]
        features = iter(self.backbone.see(pictures)) if pictures else iter(())
        seen = [[next(features) for _ in content.pictures] for content in contents]
        return self.backbone.read([content.sequence for content in contents], seen)
