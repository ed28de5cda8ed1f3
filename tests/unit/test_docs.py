"""What is documented is what there is: commands, options, variables, exit codes, links, settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cyclopts import App

from hyperfill import errors
from hyperfill.config import load
from tools import command_docs

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMANDS = dict(command_docs.commands())


def by_words(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else ""


def test_the_commands_of_the_contract_are_there() -> None:
    names = {" ".join(words[1:]) for words in COMMANDS}
    sandbox = {"sandbox start", "sandbox stop", "sandbox status"}
    assert names >= {"run", "plan", "status", "clean", "demo"} | sandbox


@pytest.mark.parametrize(("words", "command"), COMMANDS.items(), ids=by_words)
def test_every_command_and_option_explains_itself(words: tuple[str, ...], command: App) -> None:
    assert command_docs.summary(command).endswith(".")
    for option in command_docs.options(command):
        assert option.parameter.help and option.parameter.help.endswith("."), option.name
        expected = "HYPERFILL_" + option.name.removeprefix("--").replace("-", "_").upper()
        assert tuple(option.parameter.env_var or ()) == (expected,), option.name


def test_the_page_of_commands_is_up_to_date() -> None:
    assert command_docs.PAGE.read_text(encoding="utf-8") == command_docs.text(), "run `make docs`"


def test_every_command_is_mentioned_outside_its_reference() -> None:
    prose = "\n".join(p.read_text(encoding="utf-8") for p in PAGES if p != command_docs.PAGE)
    for words in COMMANDS:
        assert " ".join(words) in prose or f"make {words[-1]}" in prose, words


def test_documented_options_exist() -> None:
    options = [option for command in COMMANDS.values() for option in command_docs.options(command)]
    known = {option.name for option in options}
    # A flag that is on by default has a second name that turns it off; `negative=""` says that one has not.
    known |= {option.name.replace("--", "--no-", 1) for option in options if option.parameter.negative is None}
    # Of other programs that the pages speak of.
    foreign = {"--variant", "--mode", "--check", "--strict", "--date"}
    for page in PAGES:
        found = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text(encoding="utf-8")))
        # `--some-name` stands for any option.
        assert found <= known | foreign | {"--some-name", "--help", "--version"}, page


def test_documented_variables_exist() -> None:
    sources = "\n".join(
        p.read_text(encoding="utf-8") for folder in ("src", "tests") for p in (ROOT / folder).rglob("*.py")
    )
    options = {
        name for c in COMMANDS.values() for option in command_docs.options(c) for name in option.parameter.env_var or ()
    }
    for page in PAGES:
        for name in set(re.findall(r"HYPERFILL_[A-Z_]*[A-Z]", page.read_text(encoding="utf-8"))):
            assert name in options or name in sources or name == "HYPERFILL_SOME_NAME", (page, name)


def test_every_exit_code_is_documented() -> None:
    text = (ROOT / "docs/exit-codes.md").read_text(encoding="utf-8")
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}

    def codes(cls: type[errors.HyperfillError]) -> set[int]:
        return {cls.exit_code}.union(*(codes(sub) for sub in cls.__subclasses__()))

    expected = codes(errors.HyperfillError) | {errors.EXIT_OK, errors.EXIT_REJECTED_ROWS, 130, 143}
    assert documented == expected


def test_the_configuration_that_is_shown_is_read(tmp_path: Path) -> None:
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    block = text.split("    # migration.toml\n")[1].split("\n\n`")[0]
    path = tmp_path / "migration.toml"
    path.write_text(re.sub(r"^    ", "", block, flags=re.MULTILINE), encoding="utf-8")
    specs, limits = load(path, {})
    assert [s.table for s in specs] == ["public.metrics", '"My Schema"."Events"', "public.blocks"]
    assert specs[1].columns == '"time","kind","payload"'
    assert limits.jobs == 4


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert "://" not in target, target
        assert (page.parent / target).exists(), target
