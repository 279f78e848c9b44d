"""The parts of the page that never change, as HTML; `app/assets` brings them alive."""

from app import icons, wording
from embedder.media import Kind


def header(model: str = "") -> str:
    """The product's name, and which model searches, as trusted HTML."""
    return f'<header class="rz-header">{icons.LOGO}<h1>RzenEmbed Search</h1>{model}</header>'


def search_bar() -> str:
    """Words, a file, the weight between them, and the filters."""
    return (
        '<form id="rz-form" role="search" autocomplete="off" novalidate>'
        f'<div class="rz-ask">{icons.SEARCH}'
        '<div id="rz-attached" class="rz-attached" hidden><span class="rz-preview"></span>'
        '<span class="rz-attached-name"></span><button type="button" class="rz-icon" '
        f'data-detach aria-label="Remove the file">{icons.CLOSE}</button></div>'
        '<input id="rz-text" name="text" type="text" enterkeyhint="search" maxlength="20000" '
        'aria-label="What are you looking for?" placeholder="Describe it, or drop a picture">'
        f'<button type="button" class="rz-icon" data-clear hidden aria-label="Clear the search">'
        f"{icons.CLOSE}</button>"
        '<label class="rz-attach" title="Search with a picture, video, PDF or text">'
        '<input id="rz-file" type="file" aria-label="Search with a picture, video, PDF or text" '
        f'accept="image/*,video/*,application/pdf,text/*,.md,.heic">{icons.ATTACH}'
        "<span>File</span></label>"
        '<button type="submit" class="rz-go">Search</button></div>'
        f"{_balance()}{_filters()}</form>"
    )


def _balance() -> str:
    return (
        '<div id="rz-balance" class="rz-balance" hidden><label for="rz-weight">Words</label>'
        '<input id="rz-weight" type="range" min="0" max="1" step="0.05" value="0.5" '
        'aria-label="Weight between the words and the file">'
        '<label for="rz-weight">File</label></div>'
    )


def _filters() -> str:
    kinds = "".join(
        f'<button type="button" class="rz-chip" data-kind="{kind}" aria-pressed="false">'
        f"{icons.KINDS[kind]}{wording.KIND_PLURALS[kind]}</button>"
        for kind in Kind
    )
    return (
        f'<div class="rz-filters"><div class="rz-kinds" role="group" aria-label="Kinds">{kinds}'
        '<button type="button" class="rz-chip" id="rz-more-filters" aria-expanded="false" '
        f'aria-controls="rz-rest">{icons.SLIDERS}Filters</button></div>'
        '<div class="rz-rest" id="rz-rest">'
        '<label class="rz-field"><span>Folder</span><select id="rz-folder">'
        '<option value="">Any folder</option></select></label>'
        '<label class="rz-field"><span>From</span><input id="rz-after" type="date"></label>'
        '<label class="rz-field"><span>To</span><input id="rz-before" type="date"></label>'
        '<label class="rz-field rz-grow"><span>Not like</span><input id="rz-not-like" type="text" '
        'placeholder="words to stay away from"></label>'
        '<button type="button" class="rz-link" data-reset hidden>Reset filters</button>'
        '<label class="rz-field rz-wide" id="rz-instruction-field" hidden title="What the model '
        'is told to do with the words or the file. Left empty, it is told its own instruction.">'
        '<span>Instruction</span><input id="rz-instruction" type="text" maxlength="2000"></label>'
        "</div></div>"
    )


def add_files(*, named_folders: bool) -> str:
    """Uploading, and naming a folder of this machine where that is allowed."""
    named = (
        '<form id="rz-name-folder" class="rz-name-folder"><label for="rz-path">or add a folder '
        f'of this machine, where it lies</label><div class="rz-inline">{icons.FOLDER}'
        '<input id="rz-path" type="text" placeholder="~/Pictures" spellcheck="false" '
        'autocapitalize="off"><button class="rz-button">Add folder</button></div></form>'
    )
    return (
        f'<section class="rz-drop" id="rz-drop" aria-label="Add files">{icons.UPLOAD}'
        "<h2>Add to your library</h2>"
        "<p>Drop files or whole folders here. Copies are kept in the library.</p>"
        '<div class="rz-inline rz-center"><label class="rz-button rz-primary">'
        '<input id="rz-pick-folder" type="file" webkitdirectory multiple>Choose a folder</label>'
        '<label class="rz-button"><input id="rz-pick-files" type="file" multiple>Choose files'
        f"</label></div>{named if named_folders else ''}</section>"
        '<div id="rz-sending" aria-live="polite"></div>'
    )


def file_filter() -> str:
    """Which files the table shows, and what can be done with those that are ticked."""
    return (
        '<div class="rz-toolbar"><div class="rz-kinds" role="group" aria-label="State">'
        '<button type="button" class="rz-chip" data-status="indexed" aria-pressed="true">Indexed'
        '</button><button type="button" class="rz-chip" data-status="failed" '
        'aria-pressed="false">Failed</button><button type="button" class="rz-chip" '
        'data-status="skipped" aria-pressed="false">Skipped</button></div>'
        '<input id="rz-file-name" type="search" placeholder="Find by name" '
        'aria-label="Find files by name"><span class="rz-spring"></span>'
        '<button type="button" class="rz-button" data-retry="failed" id="rz-retry" hidden>'
        'Try failed files again</button><button type="button" class="rz-button rz-danger" '
        'id="rz-remove" disabled>Remove</button></div>'
    )


def loading() -> str:
    """Cards in waiting, until the library has answered."""
    cards = '<div class="rz-card rz-ghost"><span class="rz-thumb"></span></div>' * 8
    return f'<div class="rz-grid" aria-hidden="true">{cards}</div>'
