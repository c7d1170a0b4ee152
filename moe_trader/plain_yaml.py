"""Read a YAML file of plain values: what `moe-train` saves, and nothing that grows or builds while it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

MAX_BYTES = 500_000  # some seconds of reading; a config that lists 5,000 price files has as many
MAX_DEPTH = 100
MAX_NUMBER = 100  # characters: reading 1:1:1:... takes time with the square of its length
TEXT = "tag:yaml.org,2002:str"


class _Refused(yaml.YAMLError):
    """A part of a file that this module does not read."""

    def __init__(self, reason: str, mark: Any) -> None:
        super().__init__(f"line {mark.line + 1}: {reason}")


class _PlainLoader(get_yaml_loader()):  # type: ignore[misc]  # numbers and words are read as Hydra reads them
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node, unless it is an alias, holds an anchor or a tag, or lies too deep."""
        event = self.peek_event()
        if event.anchor is not None:
            raise _Refused("YAML anchors and aliases (&, *) are not read; write the value in full", event.start_mark)
        if event.tag is not None:
            raise _Refused(f"the YAML tag {event.tag!r} is not read; write the plain value", event.start_mark)
        if self.depth == MAX_DEPTH:
            raise _Refused(f"nested more than {MAX_DEPTH} levels deep", event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def compose_scalar_node(self, anchor: Any) -> Any:
        """Compose a value, unless it is a very long number."""
        node = super().compose_scalar_node(anchor)
        if node.tag != TEXT and len(node.value) > MAX_NUMBER:
            raise _Refused(f"a number of more than {MAX_NUMBER} characters", node.start_mark)
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Construct a mapping, unless keys stand twice, which includes 1 and 0x1, or are merged in."""
        if merge := next((key for key, _ in node.value if key.tag == "tag:yaml.org,2002:merge"), None):
            raise _Refused("the YAML merge key (<<) is not read; write the values in full", merge.start_mark)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        if len(made) < len(node.value):
            raise _Refused("a key stands twice in this mapping", node.start_mark)
        return made


def load_yaml(path: Path) -> Any:
    """Return the plain containers of a YAML file, with numbers and words as Hydra reads them; ``None`` if empty.

    :raises ValueError: ``FILE: reason`` in one line, unless the file is a regular one of at most 500 KB, valid UTF-8,
        one YAML document, without anchors, aliases, tags, duplicate keys, or more than 100 levels
    """
    try:
        if path.exists() and not path.is_file():  # nor a pipe, which would be waited for
            raise ValueError("not a regular file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES:,} bytes, the limit of a config")
        return yaml.load(content.decode("utf-8"), Loader=_PlainLoader)  # a SafeLoader
    except UnicodeDecodeError as error:
        reason = f"not valid UTF-8 (byte {error.start}); save the file as UTF-8"
    except OSError as error:
        reason = error.strerror or str(error)
    except yaml.MarkedYAMLError as error:
        at = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        reason = f"{at}not valid YAML ({error.problem})"
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
    except (ValueError, OverflowError) as error:  # also of a number that Python does not read, such as 0x_
        reason = str(error)
    raise ValueError(f"{path}: {' '.join(reason.split())}")
