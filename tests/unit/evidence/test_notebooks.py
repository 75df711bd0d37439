"""Pages of executed notebooks: self-contained, without code, and the same bytes for the same outputs."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from eguard.errors import NotebookFailedError
from eguard.evidence.figures import interval
from eguard.evidence.notebooks import execute_notebook, notebook_to_html

PLOT = "import matplotlib.pyplot as plt\nfigure, axis = plt.subplots()\naxis.plot([0, value]);"


def executed(path, cell_id, table_id):
    table = f'<style scoped>p {{}}</style><table id="T_{table_id}"><tr><th>a_long_name</th><td>a_b</td></tr></table>'
    output = new_output("display_data", data={"text/html": table, "text/plain": "table"})
    code = new_code_cell("secret_code = 1", outputs=[output], execution_count=1)
    code.id = cell_id
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Title"), code]), path)
    return path


def test_random_names_do_not_reach_the_page(tmp_path):
    pages = []
    for name, cell_id, table_id in (("one", "aaaaaaaa", "084a8"), ("two", "bbbbbbbb", "f00d1")):
        body = notebook_to_html(
            executed(tmp_path / f"{name}.ipynb", cell_id, table_id), tmp_path / "page.html", title="x"
        )
        pages.append((tmp_path / "page.html").read_bytes())
        assert "secret_code" not in body
        assert "<style scoped>" not in body
        assert "a_&#8203;long_&#8203;name" in body
        assert "a_b" in body
    assert pages[0] == pages[1]


@pytest.mark.notebook
def test_figures_are_shown_whatever_backend_the_caller_has(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    source = tmp_path / "source.ipynb"
    parameters = new_code_cell("value = 1", metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python"}}
    nbformat.write(new_notebook(cells=[parameters, new_code_cell(PLOT)], metadata=kernel), source)
    done = nbformat.read(execute_notebook(source, tmp_path / "done.ipynb", {"value": 2}, root=tmp_path), as_version=4)
    assert "value = 2" in done.cells[1].source
    assert "image/png" in done.cells[-1].outputs[-1].data


@pytest.mark.notebook
def test_a_kernel_takes_no_port(tmp_path):
    """Ports are chosen before they are taken: on a busy machine a kernel died of that."""
    asks = "import ipykernel, json\nprint(json.loads(ipykernel.get_connection_info())['transport'])"
    source = tmp_path / "source.ipynb"
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python"}}
    nbformat.write(new_notebook(cells=[new_code_cell(asks)], metadata=kernel), source)
    done = nbformat.read(execute_notebook(source, tmp_path / "done.ipynb", {}, root=tmp_path), as_version=4)
    assert done.cells[-1].outputs[0].text == "ipc\n"


@pytest.mark.notebook
def test_a_cell_that_raises_ends_the_run_and_is_named(tmp_path):
    source = tmp_path / "source.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("raise ValueError('no figures')")]), source)
    with pytest.raises(NotebookFailedError, match="no figures"):
        execute_notebook(source, tmp_path / "done.ipynb", {}, root=tmp_path)


def test_an_interval_does_not_break():
    assert " " not in interval({"value": 0.5, "interval": [0.25, 0.75]}, digits=2)
