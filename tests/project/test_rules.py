"""What no module may do: write files past `system.files`, run what was read, print names raw."""

from __future__ import annotations

import ast

import pytest

from tests.sources import SOURCES

# Writing. A call that writes is fair where one of its arguments, or the object whose method it is,
# is a path given by `publish` or `write_with`, or a buffer in memory.

WRITING_CALLS = {
    "write_text", "write_bytes", "to_parquet", "to_csv", "to_hdf", "to_feather", "to_excel",
    "to_pickle", "savefig", "save", "savez", "savez_compressed", "savetxt", "tofile", "imwrite",
    "imsave", "save_file", "write_table", "dump", "copyfile", "copy2", "copytree",
}  # fmt: skip
OPENING_CALLS = {"open", "File", "fdopen", "memmap", "open_memmap", "ZipFile", "PdfPages"}
PATH_GIVERS = {"publish", "write_hdf5"}
SAVERS = {"np.save", "numpy.save", "torch.save"}
BUFFERS = {"BytesIO", "StringIO"}
FLAGS_THAT_WRITE = {"O_WRONLY", "O_RDWR", "O_CREAT"}


def called(node: ast.AST) -> str:
    """Return the last name of what a call calls; empty where the node is no call."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def fair_targets(tree: ast.AST) -> set[str]:
    """Return the names that hold temporary paths or buffers."""
    names: set[str] = set()
    savers: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.withitem) and called(node.context_expr) in PATH_GIVERS | BUFFERS:
            names |= names_in(node.optional_vars)
        if isinstance(node, ast.Assign) and called(node.value) in BUFFERS:
            names |= names_in(*node.targets)
        if called(node) == "write_with":
            savers |= names_in(node)
            lambdas = [each for each in ast.walk(node) if isinstance(each, ast.Lambda)]
            names |= {argument.arg for each in lambdas for argument in each.args.args}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names |= {
                argument.arg
                for argument in node.args.args
                if node.name in savers or "IO" in ast.unparse(argument.annotation or node)[:12]
            }
    return names


def names_in(*nodes: ast.AST | None) -> set[str]:
    """Return all plain names below some nodes."""
    every = (each for node in nodes if node is not None for each in ast.walk(node))
    return {each.id for each in every if isinstance(each, ast.Name)}


def opens_for_writing(call: ast.Call) -> bool:
    """Whether a call of `open`, `h5py.File` and their like has a mode that writes."""
    keywords = {each.arg: each.value for each in call.keywords}
    if "driver" in keywords and ast.unparse(keywords.get("backing_store", call)) == "False":
        return False  # HDF5 in memory
    if called(call) == "PdfPages":
        return True
    # The mode is the first argument of path.open, the second of gzip.open, open and h5py.File.
    first = 0 if isinstance(call.func, ast.Attribute) and called(call) == "open" else 1
    modes = [*call.args[first : first + 2], *([keywords["mode"]] if "mode" in keywords else [])]
    texts = [each.value for each in modes if isinstance(each, ast.Constant)]
    return any(
        isinstance(text, str) and set(text) <= set("rwaxbt+-") and set(text) & set("wax+")
        for text in texts
    )


def writes(tree: ast.AST) -> list[int]:
    """Return the lines that write a file by themselves."""
    fair = fair_targets(tree)
    has_pictures = any(
        isinstance(node, ast.Import | ast.ImportFrom) and "PIL" in ast.unparse(node)
        for node in ast.walk(tree)
    )
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in FLAGS_THAT_WRITE:
            lines.append(node.lineno)
        if not isinstance(node, ast.Call):
            continue
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        if isinstance(owner, ast.Name) and owner.id == "files":
            continue
        if isinstance(node.func, ast.Name) and called(node) in WRITING_CALLS:
            continue  # imported from pipeline.system.files, or a function of the module's own
        if called(node) == "save" and not (ast.unparse(node.func) in SAVERS or has_pictures):
            continue  # a method of our own, which is looked at where it is defined
        opening = called(node) in OPENING_CALLS and opens_for_writing(node)
        direct = names_in(owner, *node.args, *(each.value for each in node.keywords))
        if (opening or called(node) in WRITING_CALLS) and not direct & fair:
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    "source",
    [
        "Path('x').write_text('a')",
        "open('x', 'w')",
        "path.open('ab')",
        "path.open(mode='wb')",
        "frame.to_parquet(path)",
        "h5py.File(path, 'r+')",
        "h5py.File(path, mode='a')",
        "figure.savefig(path)",
        "from PIL import Image\nimage.save(path, 'PNG')",
        "np.save(path, values)",
        "torch.save(state, path)",
        "json.dump(value, file)",
        "os.open(path, os.O_CREAT | os.O_RDWR)",
        "from PIL import Image\ndef save(path):\n    image.save(path)",
    ],
)
def test_writes_are_found(source: str) -> None:
    assert writes(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        "open('x')",
        "path.open('rb')",
        "Image.open(path)",
        "h5py.File(path, 'r')",
        "h5py.File('x', 'w', driver='core', backing_store=False)",
        "files.write_text(path, 'a')",
        "write_bytes(path, b'a')",
        "listing.save(path)",
        "from PIL import Image\nbuffer = io.BytesIO()\nimage.save(buffer, 'PNG')",
        "from PIL import Image\nwith publish(path) as temporary:\n    image.save(temporary)",
        "with files.publish(path) as temporary, h5py.File(temporary, 'w') as file:\n    pass",
        "write_with(path, lambda temporary: figure.savefig(temporary))",
        "import PIL\ndef save(path):\n    image.save(path)\n\nfiles.write_with(target, save)",
        "import PIL\ndef save(file: BinaryIO):\n    image.save(file)",
    ],
)
def test_fair_writes_pass(source: str) -> None:
    assert not writes(ast.parse(source))


def test_only_files_writes() -> None:
    wrong = [
        f"{name}:{line} writes past pipeline.system.files"
        for name, tree in SOURCES.items()
        # Setting up comes before the library is there; streams are opened to /dev/null alone.
        if name not in ("pipeline.system.files", "stages.setup", "pipeline.cli.streams")
        and not name.startswith("benchmarks")
        for line in writes(tree)
    ]
    assert not wrong


# Foreign code. Nothing read may become code, and nothing typed may reach a shell.

PICKLES = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}


def dangers(tree: ast.AST) -> list[int]:
    """Return the lines that could run what was read or typed."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in PICKLES:
            if not all(alias.name.endswith("Error") for alias in node.names):
                lines.append(node.lineno)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in PICKLES:
            if not node.attr.endswith("Error"):
                lines.append(node.lineno)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            keywords = {each.arg: ast.unparse(each.value) for each in node.keywords}
            if (
                name in {"eval", "exec"} | SHELLS
                or name.endswith("read_pickle")
                or keywords.get("shell", "False") != "False"
                or keywords.get("allow_pickle", "False") != "False"
                or (name == "torch.load" and keywords.get("weights_only") != "True")
            ):
                lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)",
        "exec(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "pickle.loads(data)",
        "from pickle import loads",
        "pd.read_pickle(path)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
    ],
)
def test_dangers_are_found(source: str) -> None:
    assert dangers(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        "network.eval()",
        "subprocess.run(['ls'])",
        "torch.load(path, weights_only=True)",
        "try:\n    pass\nexcept pickle.UnpicklingError:\n    pass",
        "from pickle import UnpicklingError",
    ],
)
def test_harmless_code_passes(source: str) -> None:
    assert not dangers(ast.parse(source))


def test_nothing_runs_foreign_code() -> None:
    wrong = [f"{name}:{line}" for name, tree in SOURCES.items() for line in dangers(tree)]
    assert not wrong


# Terminals. What is printed passes one function, which makes visible what a terminal would obey.


def prints(tree: ast.AST) -> list[int]:
    """Return the lines that print, or write to a stream of the process."""
    streams = {"sys.stdout.write", "sys.stderr.write", "sys.stdout.writelines"}
    names = {"print", "pprint", *streams}
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [node.lineno for node in calls if ast.unparse(node.func) in names]


def test_prints_are_found() -> None:
    source = "print(a)\nsys.stderr.write(a)\ntqdm.write(a)\nretrain(None, print)"
    assert prints(ast.parse(source)) == [1, 2]


def test_only_show_prints() -> None:
    found = {name for name, tree in SOURCES.items() if name.startswith("pipeline") and prints(tree)}
    assert found == {"pipeline.cli.text"}


def opens_any(tree: ast.AST) -> list[int]:
    """Return the lines that open a picture of whatever format: for some, Pillow runs programs."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("Image.open")
        and {each.arg: ast.unparse(each.value) for each in node.keywords}.get("formats")
        != "FORMATS"
    ]


def test_pictures_of_any_format_are_found() -> None:
    assert opens_any(ast.parse("Image.open(path)\nImage.open(path, formats=None)")) == [1, 2]
    assert opens_any(ast.parse("PIL.Image.open(file, 'r')")) == [1]
    assert opens_any(ast.parse("Image.open(path, formats=FORMATS)\nopen(path)")) == []


def test_pictures_are_opened_in_known_formats_only() -> None:
    places = [name for name in SOURCES if not name.startswith("benchmarks")]
    wrong = [f"{name}:{line}" for name in places for line in opens_any(SOURCES[name])]
    assert not wrong
    assert not [name for name in places if "from PIL.Image import" in ast.unparse(SOURCES[name])]
