"""The commands, one thin file each, and the registry that other packages add to."""

from clippy_core.registry import Registry

COMMANDS = Registry(
    "clippy.commands",
    "command",
    {
        "segment": ("clippy_cli.commands.segment:segment", "Label every pixel of images, folders, globs or stdin."),
        "train": ("clippy_cli.commands.train:train", "Train a model on pictures with captions."),
        "eval": ("clippy_cli.commands.eval:evaluate", "Measure a model on a benchmark."),
        "analyze": ("clippy_cli.commands.analyze:app", "Look inside a model: pictures and a report."),
        "export": ("clippy_cli.commands.export:export", "Write a model in another form."),
        "models": ("clippy_cli.commands.models:app", "Which models there are, and where their weights come from."),
        "plugins": ("clippy_cli.commands.plugins:plugins", "Everything registered, and which package it comes from."),
    },
)
