"""The library's model as HTML: a word in the header, and a section to change it."""

from collections.abc import Sequence

from app import wording
from app.models import ActiveModel, Offer, short_name
from app.wording import escape

_ABOUT = {
    "mini": "small, part of this program",
    "rzen": "RzenEmbed, downloaded when first used",
}


def chip(active: ActiveModel, *, trusted: bool) -> str:
    """Which model searches; its mark and its instruction are there for the script.

    Args:
        active: The library's model.
        trusted: Tell where on this machine it lies.
    """
    name = short_name(active.spec)
    told = f"The library's model: {active.spec if trusted else name}"
    dim = ""
    if active.info is not None:
        told += f". Its vectors have {active.info.dim:,} dimensions"
        dim = f"<span> · {active.info.dim:,} dimensions</span>"
    instruction = active.instruction
    data = f' data-instruction="{escape(instruction)}"' if instruction is not None else ""
    return (
        f'<span class="rz-model" data-model="{active.mark}"{data} title="{escape(told)}">'
        f"<b>{escape(name)}</b>{dim}</span>"
    )


def section(active: ActiveModel, offers: Sequence[Offer], segments: int, *, running: bool) -> str:
    """The library's model and, below it, what it can be exchanged for.

    Args:
        active: The library's model.
        offers: The others.
        segments: How many vectors would have to be computed.
        running: Whether a job runs, so that another cannot be started.
    """
    options = "".join(_option(offer, offers) for offer in offers)
    none = not any(offer.missing is None for offer in offers)
    disabled = " disabled" if running or none else ""
    hints = dict.fromkeys(offer.missing for offer in offers if offer.missing)
    hint = "".join(f'<p class="rz-fine">{escape(wording.sentence(one))}</p>' for one in hints)
    return (
        '<section class="rz-change" aria-labelledby="rz-change-title">'
        f'<h2 id="rz-change-title">Model</h2><p>{_present(active, segments)}</p>'
        '<form id="rz-reembed" class="rz-inline"><label class="rz-field"><span>Change to</span>'
        f'<select id="rz-offer"{disabled}>{options}</select></label>'
        f'<button class="rz-button"{disabled}>Compute all vectors anew</button></form>'
        '<p class="rz-fine">The new model has to look at everything again, which takes as long as '
        "adding it did. Search goes on meanwhile with the present model, and changes to the new "
        "one at the end. It can be cancelled, and goes on later where it was.</p>"
        f"{hint}</section>"
    )


def _present(active: ActiveModel, segments: int) -> str:
    told = f"The library was made with <b>{escape(active.spec)}</b>"
    counted = wording.counted(segments, "segment")
    if active.info is None:
        why = escape(wording.sentence(active.problem or "it cannot be opened"))
        return f'{told}: {counted}. <span class="rz-trouble">{why}</span>'
    return f"{told}: {counted}, each a vector of {active.info.dim:,} dimensions."


def _option(offer: Offer, offers: Sequence[Offer]) -> str:
    name = short_name(offer.spec)
    if sum(short_name(other.spec) == name for other in offers) > 1:
        name = offer.spec
    about = "not installed" if offer.missing else _ABOUT.get(offer.spec, "")
    told = f"{name} ({about})" if about else name
    return (
        f'<option value="{offer.id}" title="{escape(offer.spec)}"'
        f"{' disabled' if offer.missing else ''}>{escape(told)}</option>"
    )
