"""Make the sample library: photos from packages, and a video and a PDF made of such photos.

The results are committed; run this only to change them. It needs the project's environment, ffmpeg
and four packages in one folder:

    mkdir sources && cd sources
    apt-get download gcompris-qt-data palapeli-data lomiri-wallpapers-16.04
    pip download --no-deps --only-binary :all: --python-version 3.8 scikit-image==0.16.2
    for package in *.deb; do dpkg-deb -x "$package" .; done && unzip -q scikit_image*.whl
    cd .. && python samples/make.py sources

All pictures are in the public domain or CC0 according to the notes in those packages; `LICENSES.md`
is written from the tables below and from those notes.
"""

import argparse
import io
import re
import struct
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pillow_heif
import pymupdf
from PIL import Image, ImageOps

HERE = Path(__file__).parent
MEDIA = HERE / "media"
LONGEST_SIDE = 1024
MAX_PHOTO_BYTES = 240_000
GCOMPRIS = "GCompris (Debian package gcompris-qt-data)"
SKIMAGE = "scikit-image 0.16.2 (PyPI)"

# File in samples/media/photos: (picture in one of the packages, what it shows).
PHOTOS = {
    "animals/IMG_0101.jpg": ("explore_farm_animals/cat", "a kitten playing with a ball of yarn"),
    "animals/IMG_0102.jpg": ("explore_farm_animals/dog", "a German shepherd dog"),
    "animals/IMG_0103.jpg": ("explore_farm_animals/horse", "a band of horses"),
    "animals/IMG_0104.jpg": ("explore_farm_animals/cow", "a black and white cow"),
    "animals/IMG_0105.jpg": ("explore_farm_animals/owl", "an owl on a branch"),
    "animals/IMG_0106.jpg": ("erase/kingfisher", "a kingfisher"),
    "animals/IMG_0107.jpg": ("erase/red_panda", "a red panda"),
    "animals/IMG_0108.jpg": ("erase/crab", "a red crab on sand"),
    "animals/IMG_0109.jpg": ("explore_world_animals/hedgehog", "a hedgehog in the grass"),
    "animals/IMG_0110.jpg": ("explore_world_animals/koala", "a koala in a tree"),
    "animals/IMG_0111.jpg": ("palapeli/european-honey-bee", "a honey bee on a flower"),
    "animals/IMG_0112.heic": ("explore_world_animals/scarlet_macaw", "a scarlet macaw"),
    "places/IMG_0201.jpg": ("explore_monuments/france/eiffelTower", "the Eiffel Tower"),
    "places/IMG_0202.jpg": ("explore_monuments/france/montStMichel", "Mont-Saint-Michel"),
    "places/IMG_0203.jpg": (
        "explore_monuments/wonders/greatWallofChina",
        "the Great Wall of China",
    ),
    "places/IMG_0204.jpg": ("explore_monuments/wonders/machuPicchu", "Machu Picchu"),
    "places/IMG_0205.webp": ("explore_monuments/wonders/petra", "the rock-cut Treasury of Petra"),
    "places/IMG_0206.jpg": ("palapeli/cincinnati-bridge", "a suspension bridge at night"),
    "places/IMG_0207.jpg": ("explore_monuments/usa/canyondeChelly", "a river in a canyon"),
    "places/IMG_0208.jpg": (
        "explore_monuments/usa/statueofLiberty",
        "the Statue of Liberty; stored on its side, the EXIF orientation turns it upright",
    ),
    "places/IMG_0209.jpg": ("categorization/windmill13", "a windmill by the water"),
    "things/IMG_0301.jpg": ("skimage/coffee.png", "a cup of coffee"),
    "things/IMG_0302.jpg": ("palapeli/citrus-fruits", "slices of citrus fruit"),
    "things/IMG_0303.jpg": ("skimage/astronaut.png", "an astronaut (Eileen Collins)"),
    "things/IMG_0304.jpg": ("skimage/rocket.jpg", "a rocket on its launch pad"),
    "things/IMG_0305.png": ("solar_system/earth", "the Earth from space, transparent around it"),
    "things/IMG_0306.jpg": ("explore_world_music/africa", "a pair of drums"),
    "things/IMG_0307.jpg": ("categorization/baseball", "a baseball"),
    "things/IMG_0308.jpg": ("categorization/scissors2", "a pair of scissors"),
    "things/IMG_0309.jpg": ("categorization/cup", "a tea cup and saucer"),
}
SHOTS = {
    "erase/giraffe": "a giraffe",
    "lomiri/seeding": "dandelions at sunset",
    "explore_monuments/germany/neuschwansteinCastle": "a castle on a hill",
    "explore_world_music/orchestra": "an orchestra playing",
}
FIGURES = {
    "explore_farm_animals/sheep": "a sheep",
    "explore_farm_animals/duck": "a duck",
    "categorization/windmill1": "a windmill",
    "categorization/solar7": "a solar panel",
    "solar_system/saturn": "Saturn",
}
VIDEO = "videos/holiday.webm"
PDF = "documents/almanac.pdf"
NOTES = {
    "notes/flat-tyre.html": "how to mend a flat bicycle tyre",
    "notes/house-plants.csv": "when to water which house plant",
    "notes/lemon-cake.md": "a recipe",
    "notes/night-train.txt": "a letter about a journey by train",
}
PAGES = (
    (
        None,
        "An almanac for country walks",
        "Five short pages to read on the bench: about sheep, ducks, windmills, sunlight and a "
        "planet with rings. Bring a warm coat, a map, a flask of tea and something for the ducks.",
    ),
    (
        "explore_farm_animals/sheep",
        "Sheep on the hill",
        "A sheep is shorn once a year, in early summer, before the days get hot. One fleece gives "
        "two to four kilograms of wool. Flocks know the faces of some fifty of their own and "
        "remember them for two years. Keep dogs on the lead in the lambing season.",
    ),
    (
        "explore_farm_animals/duck",
        "Ducks on the pond",
        "Please no bread: it swells, it spoils the water and it makes birds ill. Ducks are better "
        "off with oats, peas or chopped lettuce. Their feathers are waterproof because they spread "
        "oil from a gland near the tail over them while they preen.",
    ),
    (
        "categorization/windmill1",
        "Windmills",
        "A post mill turns as a whole to face the wind; in a tower mill only the cap turns. The "
        "miller set the sails by the weather and stopped them in a storm with a wooden brake. "
        "Besides grinding grain, windmills pumped water from low land and sawed timber.",
    ),
    (
        "categorization/solar7",
        "Electricity from sunlight",
        "A solar panel of two square metres yields about three hundred and fifty kilowatt hours "
        "in a year: enough to run a refrigerator. It works best facing south, tilted by thirty to "
        "forty degrees, and kept free of shade. Cold, clear days suit it better than hot ones.",
    ),
    (
        "solar_system/saturn",
        "The planet with rings",
        "Saturn is visible to the naked eye as a steady yellowish star; a small telescope shows "
        "the rings, which are made of ice and dust. They are hardly thicker than a house is tall. "
        "A year on Saturn lasts twenty-nine of ours.",
    ),
)


@dataclass(frozen=True, slots=True)
class Credit:
    """Author, licence and source of a picture."""

    author: str
    licence: str
    source: str


SKIMAGE_CREDITS = {
    "coffee.png": Credit("Rachel Michetti", "CC0-1.0", SKIMAGE),
    "astronaut.png": Credit("NASA", "Public Domain", SKIMAGE),
    "rocket.jpg": Credit("SpaceX", "Public Domain", SKIMAGE),
}


class Sources:
    """Pictures and credits in the unpacked packages."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._gcompris: dict[str, bytes] = {}
        for path in sorted((folder / "usr/share/gcompris-qt/rcc").glob("*.rcc")):
            self._gcompris.update(read_resources(path))

    def picture(self, name: str) -> Image.Image:
        """Open a picture of the tables above."""
        package, _, rest = name.partition("/")
        if package == "skimage":
            return Image.open(self._folder / "skimage/data" / rest)
        if package == "palapeli":
            return Image.open(self._palapeli(rest))
        if package == "lomiri":
            (path,) = (self._folder / "usr/share/backgrounds").glob(f"{rest}*.jpg")
            return Image.open(path)
        return Image.open(io.BytesIO(self._gcompris[self._gcompris_key(name)]))

    def credit(self, name: str) -> Credit:
        """Return the credit of a picture, from the notes of its package."""
        package, _, rest = name.partition("/")
        if package == "skimage":
            return SKIMAGE_CREDITS[rest]
        if package == "lomiri":
            return Credit("Clemens Engelhardt", "CC0-1.0", "lomiri-wallpapers-16.04 (Debian)")
        if package == "palapeli":
            entry = self._palapeli(rest).with_suffix(".desktop").read_text("utf-8")
            author, licence, source = (
                re.search(rf"^X-KDE-PluginInfo-{key}=(.*)$", entry, re.M)[1]  # type: ignore[index]
                for key in ("Author", "License", "Website")
            )
            return Credit(author, licence, f"palapeli-data (Debian), {source}")
        return self._gcompris_credit(name)

    def _palapeli(self, name: str) -> Path:
        return self._folder / "usr/share/palapeli/collection" / f"{name}.jpg"

    def _gcompris_key(self, name: str) -> str:
        activity, _, rest = name.partition("/")
        (key,) = (
            key
            for key in self._gcompris
            if f"/activities/{activity}/resource/" in key and key.endswith(f"/{rest}.webp")
        )
        return key

    def _gcompris_credit(self, name: str) -> Credit:
        key = self._gcompris_key(name)
        folder = key
        while True:
            folder = folder.rpartition("/")[0]
            notes = self._gcompris.get(f"{folder}/README", b"").decode()
            for note in re.split(r"\n\s*\n", notes):
                if re.search(rf"^(Files:\s*)?{re.escape(key[len(folder) + 1 :])}\s*$", note, re.M):
                    fields = dict(re.findall(r"^(\w+):[ \t]*(.*)$", note, re.M))
                    source = next(word for word in reversed(note.split()) if "://" in word)
                    author = fields["Copyright"] or ", ".join(
                        re.findall(r"^\s+Copyright \d+ (.*)$", note, re.M)
                    )
                    return Credit(author, fields["License"], f"{GCOMPRIS}, {source}")


def read_resources(path: Path) -> dict[str, bytes]:
    """Read a Qt resource archive (.rcc); return its files by path."""
    data = path.read_bytes()
    version, tree, contents, names = struct.unpack(">IIII", data[4:20])
    node = 14 if version < 2 else 22

    def walk(index: int, folder: str) -> Iterator[tuple[str, bytes]]:
        at = tree + index * node
        name_at, flags, first, second = struct.unpack(">IHII", data[at : at + 14])
        name = ""
        if index:
            (length,) = struct.unpack(">H", data[names + name_at : names + name_at + 2])
            start = names + name_at + 6
            name = folder + "/" + data[start : start + 2 * length].decode("utf-16-be")
        if flags & 2:
            for child in range(second, second + first):
                yield from walk(child, name)
        else:
            start = contents + second
            (length,) = struct.unpack(">I", data[start : start + 4])
            packed = data[start + 4 : start + 4 + length]
            yield name, zlib.decompress(packed[4:]) if flags & 1 else packed

    return dict(walk(0, ""))


def make_photo(picture: Image.Image, path: Path) -> None:
    """Write a picture in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = picture.convert("RGBA" if path.suffix == ".png" else "RGB")
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    if path.suffix == ".heic":
        pillow_heif.register_heif_opener()
        picture.save(path, quality=60)
    elif path.name == "IMG_0208.jpg":
        exif = Image.Exif()
        exif[0x0112] = 6  # "turn by 90° clockwise to view", as phones write it
        picture.transpose(Image.Transpose.ROTATE_90).save(path, quality=80, exif=exif)
    elif path.suffix == ".png":
        picture.reduce(2).save(path, optimize=True)
    else:
        for quality in range(80, 40, -5):
            picture.save(path, quality=quality, optimize=True)
            if path.stat().st_size <= MAX_PHOTO_BYTES:
                break


def make_video(pictures: list[Image.Image], path: Path) -> None:
    """Write a video of slow camera moves over the pictures, six seconds each, with hard cuts."""
    size, rate, seconds = (960, 540), 24, 6
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", str(rate)]
    vp9 = ["-c:v", "libvpx-vp9", "-crf", "36", "-b:v", "0", "-pix_fmt", "yuv420p", "-g", "48"]
    command = ["ffmpeg", "-y", "-loglevel", "error", *raw, "-i", "-", *vp9, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as encoder:
        assert encoder.stdin
        for number, picture in enumerate(pictures):
            wide = ImageOps.fit(picture.convert("RGB"), (1152, 648), Image.Resampling.LANCZOS)
            for frame in range(rate * seconds):
                done = frame / (rate * seconds)
                place = done if number % 2 == 0 else 1 - done
                left, top = 192 * place, 108 * place
                shift = (1, 0, left, 0, 1, top)
                moved = wide.transform(
                    size, Image.Transform.AFFINE, shift, Image.Resampling.BICUBIC
                )
                encoder.stdin.write(moved.tobytes())
    if encoder.returncode:
        raise SystemExit(encoder.returncode)


def make_pdf(pictures: dict[str, Image.Image], path: Path) -> None:
    """Write an A5 booklet: a title page, and an illustrated page for each entry of `PAGES`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = pymupdf.open()
    for name, title, text in PAGES:
        page = document.new_page(width=420, height=595)
        top = 240.0
        if name:
            picture = pictures[name].convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            picture.thumbnail((800, 800), Image.Resampling.LANCZOS)
            stream = io.BytesIO()
            picture.convert("RGB").save(stream, "JPEG", quality=80)
            page.insert_image(pymupdf.Rect(40, 40, 380, 300), stream=stream.getvalue())
            top = 340.0
        page.insert_text((40, top), title, fontsize=20, fontname="tibo")
        body = pymupdf.Rect(40, top + 20, 380, 560)
        page.insert_textbox(body, text, fontsize=12, fontname="tiro", lineheight=1.4)
    document.set_metadata({"title": PAGES[0][1]})
    document.save(path, garbage=4, deflate=True, no_new_id=True)


def write_licences(sources: Sources) -> None:
    """Write the list of files with author, licence and source."""
    lines = [
        "# Licences of the sample library",
        "",
        "Everything under `media/` is in the public domain or dedicated to it under "
        "[CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/). Pictures were scaled to "
        f"at most {LONGEST_SIDE} pixels and re-encoded by `make.py`. The terms are those that the "
        "named packages record for each picture.",
        "",
        "| file | shows | author | licence | source |",
        "| --- | --- | --- | --- | --- |",
    ]

    def row(file: str, shows: str, credit: Credit) -> None:
        lines.append(
            f"| {file} | {shows} | {credit.author} | {credit.licence.replace('domain', 'Domain')} "
            f"| {credit.source} |"
        )

    ours = Credit("this project", "CC0-1.0", "made by `make.py`")
    for file, (name, shows) in PHOTOS.items():
        row(f"`media/photos/{file}`", shows, sources.credit(name))
    row(f"`media/{VIDEO}`", "four shots made from the photos below", ours)
    for name, shows in SHOTS.items():
        row("in the video", shows, sources.credit(name))
    row(f"`media/{PDF}`", "six pages with the photos below", ours)
    for name, shows in FIGURES.items():
        row("in the PDF", shows, sources.credit(name))
    for file, shows in NOTES.items():
        row(f"`media/{file}`", shows, Credit("this project", "CC0-1.0", "written for it"))
    (HERE / "LICENSES.md").write_text("\n".join(lines) + "\n", "utf-8")


def main() -> None:
    """Make everything except the notes, which are written by hand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", type=Path, help="folder with the unpacked packages")
    sources = Sources(parser.parse_args().sources)
    for file, (name, _) in PHOTOS.items():
        make_photo(sources.picture(name), MEDIA / "photos" / file)
    make_video([sources.picture(name) for name in SHOTS], MEDIA / VIDEO)
    make_pdf({name: sources.picture(name) for name in FIGURES}, MEDIA / PDF)
    write_licences(sources)
    sizes = [path.stat().st_size for path in MEDIA.rglob("*") if path.is_file()]
    print(f"{len(sizes)} files, {sum(sizes) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
