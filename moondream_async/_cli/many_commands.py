"""The commands for many images."""

from __future__ import annotations

from click import Argument, Choice, Option, Parameter

from .app import Command, Group
from .arguments import calls
from .options import (
    ANYWHERE,
    BUDGET,
    COMMON,
    FILE,
    FPS,
    SERVER,
    SKILL_ARGUMENTS,
    SKILLS,
    TILES,
    SkillOrFile,
    flag,
    output,
)

_OUT = ["-o", "--out"]
_INPUT_HELP = (
    "INPUT is an image, a directory, a quoted pattern such as 'photos/**/*.jpg', a URL, a .jsonl file of lines such as "
    '{"image": "a.jpg", "id": "a", "question": "..."}, or - to read such lines or paths from standard input.'
)
_END: list[Parameter] = [*output(), *SERVER, *COMMON]

run = Command(
    "run",
    callback=calls("run:run"),
    short_help="Run skills over many images and save the results.",
    help="Run skills over many images, one line of JSON per result. The same command continues an interrupted run: "
    "items that are in the file are not sent again.\n\nSKILL is query, caption, detect, point or segment. "
    + _INPUT_HELP
    + " With --fps, it may be a video, too.",
    params=[
        Argument(["inputs"], nargs=-1, required=True, type=SkillOrFile(), metavar="SKILL INPUT..."),
        Option(
            ["--skill"],
            multiple=True,
            type=Choice(SKILLS),
            metavar="SKILL",
            help="The skill as an option; repeat for several.",
        ),
        Option(_OUT, type=FILE, metavar="FILE", help="Results file (JSON Lines); one of the same run is continued."),
        *SKILL_ARGUMENTS,
        TILES,
        Option(
            ["--concurrency"],
            type=int,
            metavar="N",
            help="Maximum concurrent items; default 32, or 4 seconds' worth of --rate.",
        ),
        Option(
            ["--rate"],
            type=float,
            metavar="R",
            help="Maximum requests per second; default as fast as the server allows.",
        ),
        Option(["--max-failures"], type=int, metavar="N", help="Stop when more than N items have failed."),
        *BUDGET,
        FPS,
        flag("--fresh", help="Refuse a results file that exists."),
        flag("--resume", help="Continue an existing results file; the default."),
        flag("--retry-failed", help="Continue, and retry failed items."),
        flag("--dry-run", help="Only estimate size and cost; needs no key and sends nothing."),
        *_END,
    ],
    examples=[
        "run detect photos --object face -o faces.jsonl",
        "run detect photos --object face -o faces.jsonl --dry-run",
        "run caption 'photos/**/*.jpg' -o captions.jsonl --rate 2 --max-cost 5",
    ],
    exit_codes="0 success; 1 stopped by an error; 2 usage error, nothing was started; 3 some items failed; "
    "130 stopped by Ctrl-C (143 by SIGTERM) after in-flight items finished.",
)


def _action(
    name: str, summary: str, params: list[Parameter], examples: list[str], *, help: str | None = None
) -> Command:
    return Command(
        name,
        callback=calls("batch:run", action=name),
        short_help=summary,
        help=help or summary,
        params=[*params, *_END],
        examples=[f"batch {name} {example}".rstrip() for example in examples],
    )


_JOB = Argument(["job"])
_JOB_HELP = "JOB is a job's folder or a batch id."
_TIMEOUT = Option(["--timeout"], type=float, metavar="S", help="Wait at most S seconds.")

batch = Group(
    "batch",
    short_help="Process many images as a server-side job, at half the price.",
    help="Process many images with Moondream Cloud's Batch API, at half the price. A job is stored in a folder. If "
    "submit is interrupted, repeat it with the same --job to resume.",
    params=ANYWHERE,
    examples=[
        "batch submit caption photos --job captions.batch",
        "batch wait captions.batch",
        "batch results captions.batch -o captions.jsonl",
    ],
    exit_codes="0 success; 1 an error or a failed batch; 2 usage error; 3 some lines failed; 130 Ctrl-C.",
    sections={
        "Commands": [
            _action(
                "submit",
                "Submit images or a ready file of batch lines.",
                [
                    Argument(["inputs"], nargs=-1, required=True, type=FILE, metavar="[SKILL] INPUT..."),
                    Option(
                        ["--skill"],
                        type=Choice(("query", "caption", "detect", "point")),
                        metavar="SKILL",
                        help="query, caption, detect or point; or the first word.",
                    ),
                    Option(
                        ["--job"],
                        type=FILE,
                        metavar="FOLDER",
                        help="Folder of the job; default a new one in your state directory.",
                    ),
                    *SKILL_ARGUMENTS,
                    *BUDGET,
                    FPS,
                    flag("--dry-run", help="Only estimate size and cost; needs no key and sends nothing."),
                    flag("--wait", help="Wait until the job is finished."),
                    Option(_OUT, type=FILE, metavar="FILE", help="Wait, then save the results, as `run` does."),
                    _TIMEOUT,
                ],
                [
                    "caption photos --job captions.batch",
                    "detect photos --object face -o faces.jsonl",
                    "ready.jsonl --wait",
                ],
                help="Submit images or a ready file of batch lines.\n\n"
                + _INPUT_HELP
                + "\n\nWithout a skill, INPUT is one ready .jsonl file of batch lines.",
            ),
            _action(
                "status",
                "Show the progress of a job.",
                [_JOB],
                ["captions.batch", "01JQZX4M", "captions.batch --json"],
                help=f"Show the progress of a job.\n\n{_JOB_HELP}",
            ),
            _action(
                "wait",
                "Wait until a job is finished.",
                [_JOB, _TIMEOUT],
                ["captions.batch", "01JQZX4M", "captions.batch --timeout 3600"],
                help=f"Wait until a job is finished.\n\n{_JOB_HELP}",
            ),
            _action(
                "results",
                "Write or print the results of a finished job.",
                [
                    _JOB,
                    Option(
                        _OUT,
                        type=FILE,
                        metavar="FILE",
                        help="Results file, as written by `run`; default: print them.",
                    ),
                ],
                ["captions.batch -o captions.jsonl", "captions.batch", "01JQZX4M -o captions.jsonl"],
                help=f"Write or print the results of a finished job.\n\n{_JOB_HELP}",
            ),
            _action(
                "cancel",
                "Cancel uploads that the server has not accepted yet.",
                [_JOB],
                ["captions.batch", "01JQZX4M", "captions.batch -q"],
                help=f"Cancel uploads that the server has not accepted yet.\n\n{_JOB_HELP}",
            ),
            _action(
                "list",
                "List your batches, newest first.",
                [Option(["--limit"], type=int, metavar="N", help="At most N batches; default all.")],
                ["", "--limit 10", "--json"],
            ),
        ]
    },
)

export = Command(
    "export",
    callback=calls("export:run"),
    short_help="Convert the results of a run to a table or a dataset.",
    help="Convert the results of a run (RESULTS, JSON Lines) to a table or a dataset.\n\nThe ending of OUT chooses the "
    "format: .csv or .parquet (a row for each box or point), .json (COCO) or .geojson. With --to, OUT is a folder for "
    "yolo, voc and labelme.",
    params=[
        Argument(["results"], type=FILE),
        Argument(["out"], type=FILE),
        Option(
            ["--to"],
            type=Choice(("coco", "yolo", "voc", "labelme", "geojson", "label-studio")),
            metavar="FORMAT",
            help="coco, yolo, voc, labelme, geojson or label-studio.",
        ),
        Option(
            ["--images-root"],
            type=FILE,
            metavar="FOLDER",
            help="Make the names of images relative to this folder, as most readers of datasets expect.",
        ),
        *COMMON,
    ],
    examples=[
        "export faces.jsonl faces.csv",
        "export faces.jsonl faces.json --images-root photos",
        "export faces.jsonl dataset --to yolo --images-root photos",
    ],
)

many_commands = [run, batch, export]
