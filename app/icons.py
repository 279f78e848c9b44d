"""Small line drawings for the page, as inline SVG."""

from embedder.media.kinds import Kind


def _line(paths: str, size: int = 18) -> str:
    return (
        f'<svg width="{size}" height="{size}" viewBox="0 0 24 24" fill="none" aria-hidden="true" '
        'stroke="currentColor" stroke-width="1.8" stroke-linecap="round" '
        f'stroke-linejoin="round">{paths}</svg>'
    )


_IMAGE = (
    '<rect x="3" y="4" width="18" height="16" rx="3"/><circle cx="8.5" cy="9.5" r="1.6"/>'
    '<path d="m4 17 5-4.5 4 3.5 3-2.5 4 3.5"/>'
)
_VIDEO = '<rect x="3" y="5" width="18" height="14" rx="3"/><path d="m10 9 5 3-5 3z"/>'
_PDF = '<path d="M6 3h8l4 4v14H6z"/><path d="M14 3v4h4M9 12h6M9 16h6"/>'
_TEXT = '<path d="M5 6h14M5 10h14M5 14h9M5 18h11"/>'

KINDS = {
    Kind.IMAGE: _line(_IMAGE, 14),
    Kind.VIDEO: _line(_VIDEO, 14),
    Kind.PDF: _line(_PDF, 14),
    Kind.TEXT: _line(_TEXT, 14),
}
SEARCH = _line('<circle cx="11" cy="11" r="6.5"/><path d="m20 20-4.2-4.2"/>', 22)
ATTACH = _line(_IMAGE, 20)
CLOSE = _line('<path d="m6 6 12 12M18 6 6 18"/>')
BACK = _line('<path d="m15 5-7 7 7 7"/>', 22)
FORWARD = _line('<path d="m9 5 7 7-7 7"/>', 22)
CHEVRON = _line('<path d="m6 9 6 6 6-6"/>')
SLIDERS = _line(
    '<path d="M4 7h10M18 7h2M4 17h2M10 17h10"/><circle cx="16" cy="7" r="2"/>'
    '<circle cx="8" cy="17" r="2"/>'
)
COPY = _line(
    '<rect x="9" y="9" width="11" height="11" rx="2"/><path d="M5 15V6a2 2 0 0 1 2-2h8"/>', 16
)
DOWNLOAD = _line('<path d="M12 4v11M7 11l5 5 5-5M5 20h14"/>', 16)
SIMILAR = _line('<circle cx="9" cy="12" r="5.5"/><circle cx="15" cy="12" r="5.5"/>', 16)
FOLDER = _line(
    '<path d="M3 7a2 2 0 0 1 2-2h4l2 2h8a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2z"/>', 20
)
UPLOAD = _line('<path d="M12 16V5M7 9l5-5 5 5M5 20h14"/>', 22)
PLAY = (
    '<svg width="14" height="14" viewBox="0 0 24 24" fill="currentColor" aria-hidden="true">'
    '<path d="M8 5.5v13l11-6.5z"/></svg>'
)
STACK = _line(
    '<rect x="3" y="7" width="14" height="13" rx="2.5"/><path d="M7 4h11a3 3 0 0 1 3 3v9"/>'
    '<path d="m4 17 4-4 3 3 2-2 4 4"/><circle cx="8" cy="11" r="1.3"/>',
    56,
)
LOGO = (
    '<svg width="26" height="26" viewBox="0 0 32 32" aria-hidden="true">'
    '<rect width="32" height="32" rx="9" fill="var(--rz-accent)"/>'
    '<circle cx="14" cy="14" r="6" fill="none" stroke="#fff" stroke-width="2.6"/>'
    '<path d="m18.6 18.6 5 5" stroke="#fff" stroke-width="2.8" stroke-linecap="round"/></svg>'
)
