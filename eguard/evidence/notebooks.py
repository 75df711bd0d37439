"""Execute notebooks with papermill and turn them into one HTML page each and one PDF together.

The pages carry their figures inside and load nothing from elsewhere, so that an evidence pack can be read years later
on a machine without network.
"""

from __future__ import annotations

import html
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import nbformat
import papermill
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from eguard.errors import NotebookFailedError

#: Seconds that one notebook may take.
TIMEOUT_SECONDS: Final = 300
#: Notebooks that run side by side.
KERNELS: Final = 2
_TABLE_STYLES: Final = re.compile(r"<style scoped>.*?</style>", re.DOTALL)
_STYLED_TABLES: Final = re.compile(r"\bT_[0-9a-f]{5}(?![0-9a-f])")
_HEADINGS: Final = re.compile(r"(?<=<th>)[^<]*_[^<]*(?=</th>)")
_TEMPLATES: Final = Path(__file__).parent / "templates"


def execute_notebook(
    source: Path, output: Path, parameters: Mapping[str, Any], *, root: Path, kernel: str = "python3"
) -> Path:
    """Run a notebook from top to bottom in folder `root` and keep the executed copy.

    Parameters
    ----------
    source, output : Path
        The notebook as committed, and where its executed copy goes.
    parameters : mapping
        Values for its ``parameters`` cell.
    root : Path
        Folder in which the notebook runs.
    kernel : str
        Kernel to run it with.

    Raises
    ------
    NotebookFailedError
        A cell raised; the message names the notebook and the exception.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    # Otherwise the kernel's debugger warns on every start about frozen modules.
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    # A kernel inherits the backend; with any other than this one figures are drawn and never shown.
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    try:
        with tempfile.TemporaryDirectory(prefix="eguard-kernel-", ignore_cleanup_errors=True) as folder:
            papermill.execute_notebook(
                str(source.absolute()),
                str(output.absolute()),
                parameters=dict(parameters),
                cwd=str(root.absolute()),
                kernel_name=kernel,
                progress_bar=False,
                execution_timeout=TIMEOUT_SECONDS,
                start_timeout=60,
                config=_own_sockets(Path(folder)),
            )
    except PapermillExecutionError as error:
        raise NotebookFailedError(
            f"{source.name}: cell {error.exec_count} raised {error.ename}: {error.evalue}",
            remedy=f"Open {output} to see the cell, or run the notebook in JupyterLab.",
            notebook=str(source),
        ) from error
    return output


def _own_sockets(folder: Path) -> Config:
    """Have a kernel talk over sockets in a folder that only this user may enter.

    Ports are chosen before the kernel takes them: on a busy machine somebody else may have taken one by then, and the
    kernel dies before it says a word. They can be read by everybody on the machine, too.
    """
    return Config({"KernelManager": {"transport": "ipc", "ip": str(folder / "kernel")}})


def notebook_to_html(executed: Path, output: Path, *, title: str) -> str:
    """Write an executed notebook as a self-contained page and return its body for the PDF.

    Code is left out: the page is for readers of the findings; the executed notebook lies beside it. The same outputs
    give the same bytes.
    """
    notebook = nbformat.read(executed, as_version=4)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # that of the injected parameters is random
    exporter = HTMLExporter(
        template_name="evidence",
        extra_template_basedirs=[str(_TEMPLATES)],
        exclude_input=True,
        exclude_output_prompt=True,
        exclude_input_prompt=True,
    )
    body, _ = exporter.from_notebook_node(notebook)
    body = _TABLE_STYLES.sub("", body)  # the house style has rules for tables; one copy a table slows the layout down
    tables = dict.fromkeys(_STYLED_TABLES.findall(body))
    for number, name in enumerate(tables):
        body = body.replace(name, f"T_table{number}")  # pandas names styled tables at random
    body = _HEADINGS.sub(lambda heading: heading[0].replace("_", "_&#8203;"), body)  # long names of columns may break
    style = (_TEMPLATES / "evidence" / "style.css").read_text()
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )
    output.write_text(page)
    return str(body)


def write_pdf(bodies: Sequence[str], output: Path, *, title: str, facts: Mapping[str, str]) -> None:
    """Lay out the notebooks' bodies as one PDF with a title page that states `facts`."""
    from weasyprint import HTML  # noqa: PLC0415 - loads Pango; only the report needs it

    style = (_TEMPLATES / "evidence" / "style.css").read_text()
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in facts.items()
    )
    cover = f'<section class="cover"><h1>{html.escape(title)}</h1><table class="facts">{rows}</table></section>'
    chapters = "".join(f'<section class="chapter">{body}</section>' for body in bodies)
    document = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
    document += f"<style>{style}</style></head><body>{cover}{chapters}</body></html>"
    HTML(string=document, base_url=str(output.parent)).write_pdf(str(output))


def render_report(
    notebooks: Sequence[Path],
    *,
    parameters: Mapping[str, Any],
    root: Path,
    reports: Path,
    title: str,
    facts: Mapping[str, str],
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Path]:
    """Execute every notebook and write its HTML page, then all of them as ``evidence-report.pdf``.

    Returns
    -------
    list of Path
        The files written.
    """
    bodies: list[str] = []
    written: list[Path] = []
    # Each notebook has a kernel of its own and waits for it, so threads are enough to keep two busy.
    with ThreadPoolExecutor(KERNELS) as pool:
        run = partial(execute_notebook, parameters=parameters, root=root)
        kernels = pool.map(run, notebooks, [reports / source.name for source in notebooks])
        for number, executed in enumerate(kernels):
            page = reports / f"{executed.stem}.html"
            bodies.append(notebook_to_html(executed, page, title=f"{title}: {executed.stem}"))
            written += [executed, page]
            if progress:
                progress("notebooks", number + 1, len(notebooks))
    pdf = reports / "evidence-report.pdf"
    write_pdf(bodies, pdf, title=title, facts=facts)
    return [*written, pdf]
