"""The commands that run one skill."""

from __future__ import annotations

from click import Argument, Choice, Option, Parameter

from .app import Command
from .arguments import calls
from .options import COMMON, FILE, LENGTHS, REASONING, SAMPLING, SERVER, TILES, flag, output

_OBJECT = Option(["--object"], multiple=True, metavar="TEXT", help="What to find, if there are several images.")
_STREAM = flag("--stream", help="Print the answer as it arrives.")
_PICTURE: list[Parameter] = [
    Option(["--save"], type=FILE, metavar="FILE", help="Save the annotated image; of several, in this folder."),
    flag("--show", help="Draw the annotated image in the terminal."),
    flag("--open", help="Open the annotated image in the system's viewer."),
]
_IMAGE_HELP = "IMAGE is a path, a URL, a data: URI, or - for standard input. Several images are processed at once."


def _words(metavar: str) -> Argument:
    return Argument(["images"], nargs=-1, required=True, type=FILE, metavar=metavar)


def _command(
    name: str, summary: str, params: list[Parameter], examples: list[str], *, formats: tuple[str, ...] = ()
) -> Command:
    return Command(
        name,
        callback=calls("ask:run", skill=name),
        help=f"{summary}\n\n{_IMAGE_HELP}",
        params=[*params, *SAMPLING, *output(("table", "json", "jsonl", *formats)), *SERVER, *COMMON],
        examples=examples,
    )


ask_commands = [
    _command(
        "caption",
        "Describe images.",
        [
            _words("IMAGE..."),
            Option(
                ["--length"],
                type=Choice(LENGTHS),
                default="normal",
                metavar="LENGTH",
                help="short, normal (the default) or long.",
            ),
            _STREAM,
        ],
        ["caption photo.jpg", "caption *.jpg --length short", "caption - --stream < photo.jpg"],
    ),
    _command(
        "query",
        "Ask a question about images.",
        [
            _words("IMAGE... QUESTION"),
            Option(["--question"], metavar="TEXT", help="The question; then all words are images."),
            REASONING,
            _STREAM,
        ],
        [
            'query photo.jpg "What is on the table?"',
            'query photo.jpg "How many people are there?" --reasoning --stream',
            'query https://example.com/a.jpg "Is it raining?" --json',
        ],
    ),
    _command(
        "detect",
        "Find objects, as boxes.",
        [_words("IMAGE OBJECT..."), _OBJECT, TILES, *_PICTURE],
        [
            "detect photo.jpg cat dog --save found.png",
            "detect aerial.jpg car --tiles auto",
            "detect *.jpg --object car --format coco > cars.json",
        ],
        formats=("csv", "coco", "yolo"),
    ),
    _command(
        "point",
        "Find objects, as points.",
        [_words("IMAGE OBJECT..."), _OBJECT, TILES, *_PICTURE],
        [
            "point photo.jpg face",
            "point photo.jpg cat dog --save found.png",
            "point *.jpg --object car --format csv > cars.csv",
        ],
        formats=("csv",),
    ),
    _command(
        "segment",
        "Outline an object, as an SVG path.",
        [_words("IMAGE... OBJECT"), _OBJECT, _STREAM, *_PICTURE],
        [
            "segment photo.jpg dog",
            "segment photo.jpg dog --show",
            "segment photo.jpg dog --format svg > dog.svg",
        ],
        formats=("csv", "coco", "yolo", "svg"),
    ),
]
