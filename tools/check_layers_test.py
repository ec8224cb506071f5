import check_layers
import pytest


@pytest.fixture(name="tree")
def make_tree(tmp_path):
    """A function that lays files out; returns the problems found in them."""
    def lay(files):
        (tmp_path / "src").mkdir()
        (tmp_path / "src/layers.txt").write_text("core:\nkernels: core\nio: core\n")
        for name, text in files.items():
            path = tmp_path / "src" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return check_layers.check(tmp_path)
    return lay


def test_includes_that_point_down_are_fine(tree):
    assert not tree({
        "io/a.cpp": '#include "io/a.h"\n#include "core/error.h"\n#include <vector>\n',
        "io/a_test.cpp": '#include "kernels/kernels.h"\n#include "tests/support/data.h"\n',
        "kernels/isa.cpp": '#include "kernels/vec.h"\n',
        "kernels/dispatch.cpp": '#include "core/error.h"\n',
    })


@pytest.mark.parametrize("name, line, complaint", [
    ("core/a.h", '#include "io/a.h"', "src/core/a.h:1: core/ may not include io/"),
    ("io/a.cpp", '#  include "kernels/a.h"', "io/ may not include kernels/"),
    ("io/a.cpp", '#include "a.h"', "does not start with a folder of src/"),
    ("io/a.cpp", '#include "../core/a.h"', "does not start with a folder of src/"),
    ("io/a.cpp", '#include "tests/support/data.h"', "does not start with a folder of src/"),
    ("kernels/isa_gemm.cpp", '#include "core/a.h"', "compiled once per CPU family"),
    ("misc/a.cpp", "", "its folder is not in src/layers.txt"),
])
def test_other_includes_are_named(tree, name, line, complaint):
    problems = tree({name: line + "\n"})
    assert len(problems) == 1 and complaint in problems[0]


def test_what_a_family_file_includes_is_checked_too(tree):
    problems = tree({"kernels/isa.cpp": '#include "kernels/vec.h"\n',
                     "kernels/vec.h": '#include "core/error.h"\n'})
    assert problems == ["src/kernels/vec.h:1: is compiled once per CPU family "
                        "and may not include core/"]


def test_a_table_out_of_order_is_refused(tmp_path):
    table = tmp_path / "layers.txt"
    table.write_text("io: core\ncore:\n")
    assert "io stands on core" in check_layers.read_layers(table)[1][0]
