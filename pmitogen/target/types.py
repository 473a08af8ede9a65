"""Types that the files of this package share. For the type checker only: this file does not travel to targets."""

from typing import Dict, List, Optional, Tuple, TypedDict

from pmitogen.protocol.framing import Frame, Header, Json, Send

__all__ = ["Bundle", "Bytecode", "Frame", "Header", "Json", "Manifest", "Module", "Report", "Send", "StartInfo", "Task"]

Bundle = Dict[str, Json]  # files and parameters that an interpreter is started with: see boot.py
Manifest = Dict[str, str]  # path in an archive -> hash of the content
Module = Tuple[str, bool]  # path in an archive, and whether it is a package
Bytecode = Tuple[str, str, bytes]  # hash of the source, path in the archive, marshalled code
StartInfo = Dict[str, Json]  # how an interpreter was started: see sources.py
Task = Tuple[Header, bytes, Optional[List[str]], bool, bool]  # see run_payload in payload/run.py
Report = TypedDict("Report", {"status": int, "payload": List[str], "stdlib": List[str]}, total=False)  # of a payload's child
