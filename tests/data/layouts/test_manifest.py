import pytest

from segqa.data.layouts.dataset import Finding
from segqa.data.layouts.registry import LAYOUTS, choose_layout
from segqa.errors import InputError


@pytest.fixture
def table(tmp_path, draw):
    for name in ("scan1", "scan2"):
        draw(tmp_path / "files" / f"{name}.png")
        draw(tmp_path / "files" / f"{name}_seg.png", (2, 3, 20, 21))
    path = tmp_path / "kidneys.csv"
    path.write_text(
        "image,mask,group,age\nfiles/scan1.png,files/scan1_seg.png,anna,40\nfiles/scan2.png,files/scan2_seg.png,,50\n"
    )
    return path


def read(path, **options):
    name, _ = choose_layout(path, None)
    assert name == "manifest"
    return LAYOUTS[name].read(path, None, Finding(**options))


def test_rows_become_cases_with_the_group_of_their_column(table):
    dataset = read(table)

    assert dataset.name == "kidneys"
    assert [(case.name, case.group) for case in dataset.cases] == [("scan1", "anna"), ("scan2", "scan2")]
    assert dataset.cases[0].read_truth().labels.sum() == 18 * 18


def test_a_column_that_lacks_is_named(tmp_path):
    (tmp_path / "x.csv").write_text("picture,mask\na.png,b.png\n")

    with pytest.raises(InputError, match=r"x.csv: no column image \(found picture, mask\)"):
        read(tmp_path / "x.csv")


def test_files_that_lack_are_named_together_or_left_out(table):
    with table.open("a") as file:
        file.write("files/no.png,files/scan1_seg.png,,\nfiles/scan1.png,,,\n")

    with pytest.raises(InputError, match=r"2 cases lack a file: no \(no such file.*scan1 \(no reference is named\)"):
        read(table)
    assert [gone.case for gone in read(table, allow_missing=True).left_out] == ["no", "scan1"]
