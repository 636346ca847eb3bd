"""A site folder as a whole: what is right loads, what is wrong is told, all of it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from overread import examples
from overread.errors import SiteError
from overread.pipelines.model import Server
from overread.site import load, load_routes
from tests.site.sites import MAIN, MODEL, PIPELINE, ROUTES, whole, write

SERVED = "runtime: kserve\nserver: {name: triton, model: net, version: '1'}\n"


def faults(root: Path, environ: dict[str, str] | None = None, *, verify: bool = False) -> list[str]:
    with pytest.raises(SiteError) as caught:
        load(root, environ or {}, verify=verify)
    return str(caught.value).splitlines()


def test_a_right_one_is_loaded_and_frozen(tmp_path: Path) -> None:
    site = load(whole(tmp_path), {}, verify=True)
    assert site.root == tmp_path
    assert site.settings.site.name == "Test"
    assert site.settings.data == tmp_path / "data"
    assert [route.name for route in site.routes] == ["spots"]
    assert list(site.pipelines) == ["bright-spots"]
    assert site.ae_titles == {"OVERREAD", "SPOTS"}
    assert site.pipeline_for("SPOTS") is site.pipelines["bright-spots"]
    assert site.pipeline_for("OVERREAD") is None
    assert site.models["net@1.0.0"].file == tmp_path / "models/net/1.0.0/net.onnx"
    assert site.operators["threshold"].__name__ == "threshold"
    assert site.operator_sources["threshold"] is None
    with pytest.raises(TypeError):
        site.pipelines["x"] = site.pipelines["bright-spots"]  # type: ignore[index]  # on purpose
    with pytest.raises(ValueError, match="frozen"):
        site.settings.site.name = "other"  # type: ignore[misc]  # on purpose


def test_the_least_site_is_a_name(tmp_path: Path) -> None:
    site = load(write(tmp_path, {"overread.yaml": "site: {name: A}"}), {})
    assert (site.routes, dict(site.pipelines), dict(site.models)) == ((), {}, {})


def test_the_plain_example_is_right(tmp_path: Path) -> None:
    examples.copy("plain", tmp_path / "site")
    assert load(tmp_path / "site", {}).settings.site.name == "My hospital"


def test_the_brain_tumour_example_is_right(tmp_path: Path) -> None:
    """As it is shipped, the model's digest included."""
    examples.copy("bts", tmp_path / "site")
    site = load(tmp_path / "site", {}, verify=True)
    assert site.ae_titles == {"OVERREAD", "CI2_CD_BTS"}
    assert set(site.settings.destinations) == {"PACS"}
    assert site.settings.destinations["PACS"].with_ == {"host": "127.0.0.1", "port": 11113}
    assert site.settings.senders[0].ae_title == "SCANNER"
    pipeline = site.pipelines["brain-tumour"]
    assert pipeline.complete.quiet == timedelta(seconds=30)
    card = site.models["brain-tumour@1.0.0"].card
    assert pipeline.steps["fine"].with_["in_plane_mm"] == card.input.resample_in_plane_mm
    assert pipeline.steps["norm"].with_["method"] == card.input.normalise


def test_without_overread_yaml_it_is_no_site(tmp_path: Path) -> None:
    assert faults(tmp_path / "nowhere") == [
        f"overread.yaml:0: {tmp_path / 'nowhere'} has no such file; "
        "expected a site folder; `overread init DIR` makes one"
    ]


def test_all_faults_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    root = whole(
        tmp_path,
        main="""\
        site: {nam: Test}
        dicom:
          port: many
          ae_title: "A\\\\B"
        destinations:
          PACS: {use: dimsee, with: {host: h}}
        portal: {host: 0.0.0.0}
        senders: [{ae_title: X, ae_title: Y}]
        """,
        routes="routes:\n  - name: a\n    when: {Modalty: MR, Rows: {like: x}}\n    send_to: []\n",
        pipeline=PIPELINE.replace("threshold", "treshold").replace("[volumes]", "[volume]"),
        model=MODEL.replace("name: net", "name: ned"),
    )
    (root / "models/net/1.0.0/net.onnx").write_bytes(b"other")
    write(root, {"operators/mine.py": "import nothing_of_that_name\n"})
    told = faults(root, verify=True)
    assert [line.split("; expected")[0] for line in told] == [
        "models/net/1.0.0/model.yaml:1: name is 'ned', but the folder is called 'net'",
        told[1].split("; expected")[0],
        "operators/mine.py:1: cannot be imported: ModuleNotFoundError: "
        "No module named 'nothing_of_that_name'",
        "overread.yaml:1: 'name' is missing in site",
        "overread.yaml:1: unknown key site.nam",
        "overread.yaml:3: dicom.port: 'many'",
        "overread.yaml:4: dicom.ae_title: 'A\\\\B' is not an AE title",
        "overread.yaml:6: there is no kind of destination 'dimsee'",
        "overread.yaml:7: portal: host '0.0.0.0' is wider than loopback",
        "overread.yaml:8: the key 'ae_title' stands twice, first in line 8",
        "pipelines/spots.yaml:7: steps.mask.use: there is no operator 'treshold'",
        "pipelines/spots.yaml:9: results[1]: step volume makes Volume, which is no result",
        "routes.yaml:3: routes[1].when.Modalty: 'Modalty' is no attribute of DICOM",
        "routes.yaml:3: routes[1].when.Rows.like: like does not go with Rows, of VR US",
        "routes.yaml:4: routes[1].send_to: []",
    ]
    assert told[1].startswith("models/net/1.0.0/model.yaml:4: the SHA-256 of net.onnx is ")
    assert "perhaps threshold" in told[10]
    assert told[3:9] == [
        "overread.yaml:1: 'name' is missing in site; expected `name:` there",
        "overread.yaml:1: unknown key site.nam; expected an existing key, perhaps name",
        "overread.yaml:3: dicom.port: 'many'; expected a valid integer, unable to parse string as "
        "an integer",
        "overread.yaml:4: dicom.ae_title: 'A\\\\B' is not an AE title; expected 1 to 16 "
        "characters, no backslash",
        "overread.yaml:6: there is no kind of destination 'dimsee'; expected an existing kind, "
        "perhaps dimse",
        "overread.yaml:7: portal: host '0.0.0.0' is wider than loopback; expected "
        "certificate and key, or the address of the proxy that ends TLS",
    ]


def test_a_fault_hides_none_of_a_later_stage(tmp_path: Path) -> None:
    """What the first user met: faults of shape and of meaning together, in every file."""
    root = whole(
        tmp_path,
        main=MAIN + "dicom: {prt: 104}\nsenders:\n  - ae_titel: SCANNER\n",
        pipeline="complete: {quiet: 30}\n"
        + PIPELINE.replace("use: threshold", "use: treshold")
        .replace("where:", "wher: 1, where:")
        .replace("[PACS]", "[PACS, PACKS]")
        .replace("1.0.0", "1"),
        routes=ROUTES.replace("when:", "whne:").replace("[SPOTS, PACS]", "[SPOTZ, PACS]"),
    )
    assert faults(root) == [
        "overread.yaml:4: unknown key dicom.prt; expected an existing key, perhaps port",
        "overread.yaml:6: 'ae_title' is missing in senders[1]; expected `ae_title:` there",
        "overread.yaml:6: unknown key senders[1].ae_titel; expected an existing key, perhaps "
        "ae_title",
        "pipelines/spots.yaml:1: complete.quiet: 30 is not a duration; expected a number with a "
        "unit: 30s, 60m, 12h",
        "pipelines/spots.yaml:3: version: 1; expected a valid string: write it in quotes",
        "pipelines/spots.yaml:6: steps.one.with.wher: operator select_series has no setting "
        "'wher'; expected an existing setting, perhaps where",
        "pipelines/spots.yaml:8: steps.mask.use: there is no operator 'treshold'; expected an "
        "existing operator, perhaps threshold",
        "pipelines/spots.yaml:11: send.clinical[2]: there is no destination 'PACKS'; expected an "
        "existing destination, perhaps PACS",
        "routes.yaml:2: 'when' is missing in routes[1]; expected `when:` there",
        "routes.yaml:3: unknown key routes[1].whne; expected an existing key, perhaps when",
        "routes.yaml:4: there is no AE title 'SPOTZ' to send to; expected an existing destination "
        "or pipeline, perhaps SPOTS",
    ]


def test_a_step_with_a_fault_is_still_a_step(tmp_path: Path) -> None:
    """Its name, its operator and its settings are known; what it lacks may be what is wrong."""
    text = PIPELINE.replace("volume: {use: read_volume, in:", "volume: {use: read_volum, inn:")
    root = whole(tmp_path, pipeline=text.replace("[volumes]", "[volumes, 3]"))
    assert [line.split(";")[0] for line in faults(root)] == [
        "pipelines/spots.yaml:6: steps.volume.use: there is no operator 'read_volum'",
        "pipelines/spots.yaml:6: unknown key steps.volume.inn",
        "pipelines/spots.yaml:9: results[2]: 3",
    ]
    root = whole(tmp_path, pipeline=text.replace("read_volum,", "read_volume,"))
    assert [line.split(";")[0] for line in faults(root)] == [
        "pipelines/spots.yaml:6: unknown key steps.volume.inn",
    ]
    root = whole(tmp_path, pipeline=PIPELINE[: PIPELINE.index("steps:")] + "results: [volumes]\n")
    assert faults(root) == [
        "pipelines/spots.yaml:1: 'steps' is missing in the file; expected `steps:` there"
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {"main": MAIN.replace("{with", "{{with")},
        {"main": MAIN.replace("destinations:", "destinations: 3\ndicom:")},
        {"pipeline": PIPELINE.replace("results:", "results: [")},
        {"pipeline": PIPELINE.replace("ae_title", "ae_titel")},
        {"pipeline": PIPELINE.replace("SPOTS", "a title that is too long")},
    ],
)
def test_what_may_stand_where_it_cannot_be_read_is_not_called_unknown(
    tmp_path: Path, changed: dict[str, str]
) -> None:
    told = faults(whole(tmp_path, **changed))
    assert told
    assert not any("there is no" in line for line in told), "\n".join(told)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"main": MAIN + "root: /tmp\n"},
            "overread.yaml:4: unknown key root; expected no such key",
        ),
        ({"main": "- a\n"}, "overread.yaml:1: ['a']; expected a mapping: site, database"),
        (
            {"main": MAIN.replace("PACS: {", "PACS: {use: dimze, ")},
            "overread.yaml:3: there is no kind of destination 'dimze'; expected an existing kind, "
            "perhaps dimse",
        ),
        (
            {"main": MAIN.replace("port: 11113", "prt: 11113")},
            "overread.yaml:3: destination PACS: port: Field required; prt: Extra inputs are not "
            "permitted; expected the settings of dimse",
        ),
        (
            {"main": MAIN.replace("PACS", "SPOTS")},
            "pipelines/spots.yaml:3: AE title SPOTS is destination SPOTS's too; expected one of "
            "its own",
        ),
        (
            {"main": MAIN + "dicom: {ae_title: PACS}\n"},
            "overread.yaml:3: AE title PACS is the router's too; expected one of its own",
        ),
        (
            {"main": MAIN + "dicom: {ae_title: SPOTS}\n"},
            "pipelines/spots.yaml:3: AE title SPOTS is the router's too; expected one of its own",
        ),
        (
            {"main": MAIN + "engine: {step_timeout: 30}\n"},
            "overread.yaml:4: engine.step_timeout: 30 is not a duration; expected a number "
            "with a unit: 30s, 60m, 12h",
        ),
        (
            {"routes": ROUTES.replace("[SPOTS, PACS]", "[SPOTS, PASC]")},
            "routes.yaml:4: there is no AE title 'PASC' to send to; expected an existing "
            "destination or pipeline, perhaps PACS",
        ),
        (
            {"routes": ROUTES.replace("PACS", "OVERREAD")},
            "routes.yaml:4: there is no AE title 'OVERREAD' to send to; expected one of PACS, "
            "SPOTS",
        ),
        (
            {"routes": ROUTES + ROUTES.removeprefix("routes:\n")},
            "routes.yaml:5: there is a route 'spots' already; expected a name of its own",
        ),
        (
            {"pipeline": PIPELINE.replace("above: 100", "above: x")},
            "pipelines/spots.yaml:7: steps.mask.with.above: 'x' does not fit; expected ",
        ),
        (
            {"pipeline": PIPELINE.replace("[PACS]", "[PASC]")},
            "pipelines/spots.yaml:10: send.clinical[1]: there is no destination 'PASC'; expected "
            "an existing destination, perhaps PACS",
        ),
        (
            {"pipeline": PIPELINE.replace("{Modality: MR}", "{Modality: '${env:A}'}")},
            "pipelines/spots.yaml:5: a reference to the environment or a file; expected such "
            "references only in overread.yaml",
        ),
        (
            {"pipeline": PIPELINE.replace("version: 1.0.0", "version: 1.0")},
            "pipelines/spots.yaml:2: version: 1.0; expected a valid string: write it in quotes",
        ),
        (
            {"model": MODEL.replace("{modality", "{window: [128, 128], modality")},
            "models/net/1.0.0/model.yaml:5: input.window has 2 values; expected at least 3",
        ),
        (
            {"model": MODEL.replace("sha256: ", "sha256: X")},
            "models/net/1.0.0/model.yaml:4: sha256: 'X",
        ),
        (
            {"model": MODEL.replace("net.onnx", "nets.onnx")},
            "models/net/1.0.0/model.yaml:3: there is no file 'nets.onnx'; expected the model's "
            "weights there",
        ),
        (
            {"model": MODEL.replace("net.onnx", "../../../overread.yaml")},
            "models/net/1.0.0/model.yaml:3: file '../../../overread.yaml' lies outside",
        ),
        (
            {"model": MODEL.replace("{modality", "{statistics: {rnd: [1, 2]}, modality")},
            "models/net/1.0.0/model.yaml:5: there is no statistic 'rnd'; expected ",
        ),
        (
            {"model": MODEL.replace("{modality", "{statistics: {rind: [3, 2]}, modality")},
            "models/net/1.0.0/model.yaml:5: input.statistics.rind: 3 to 2 is no range",
        ),
        (
            {"model": MODEL + "runtime: onyx\n"},
            "models/net/1.0.0/model.yaml:12: there is no runtime 'onyx'; expected an existing "
            "runtime, perhaps onnx",
        ),
        (
            {"model": MODEL + f"folds: [{{file: two.onnx, sha256: {'a' * 64}}}]\n"},
            "models/net/1.0.0/model.yaml:12: there is no file 'two.onnx'; expected the model's "
            "weights there",
        ),
        (
            {"model": MODEL + f"folds: [{{file: net.onnx, sha256: {'a' * 64}}}]\n"},
            "models/net/1.0.0/model.yaml:12: the SHA-256 of net.onnx is ",
        ),
        (
            {"model": MODEL + SERVED},
            "models/net/1.0.0/model.yaml:13: there is no model server 'triton' in overread.yaml",
        ),
        (
            {"model": MODEL + "runtime: kserve\n"},
            "models/net/1.0.0/model.yaml:1: the file: runtime kserve finds its model on a server; "
            "expected server with it, and only then",
        ),
        (
            {"main": MAIN + "model_servers: {triton: {url: triton:8000}}\n"},
            "overread.yaml:4: model_servers.triton.url: 'triton:8000'; expected ",
        ),
        (
            {"main": MAIN + "engine: {device: gpu}\n"},
            "overread.yaml:4: engine.device: 'gpu'; expected ",
        ),
        (
            {"model": MODEL.replace("modality: MR", "modallity: MR")},
            "models/net/1.0.0/model.yaml:5: unknown key input.modallity; expected an existing key, "
            "perhaps modality",
        ),
    ],
)
def test_a_fault_is_told_with_its_place(
    tmp_path: Path, changed: dict[str, str], expected: str
) -> None:
    told = faults(whole(tmp_path, **changed), verify=True)
    assert any(line.startswith(expected) for line in told), "\n".join(told)


def test_a_fault_of_an_item_is_not_told_of_the_list_too(tmp_path: Path) -> None:
    told = faults(whole(tmp_path, model=MODEL.replace("name: tumour", "nam: tumour")))
    assert not [line for line in told if "at least 1" in line], "\n".join(told)


def test_a_model_may_have_folds_and_run_on_a_server_that_is_named(tmp_path: Path) -> None:
    digest = MODEL.split("sha256: ")[1][:64]
    folds = f"folds: [{{file: net.onnx, sha256: {digest}}}]\n"
    site = load(whole(tmp_path / "folds", model=MODEL + folds), {}, verify=True)
    model = site.models["net@1.0.0"]
    assert model.folds == (model.file,)
    assert [one.card.sha256 for one in model.members] == [digest, digest]
    main = MAIN + "model_servers: {triton: {url: 'grpc://triton.hospital:8001'}}\n"
    site = load(whole(tmp_path / "server", main=main, model=MODEL + SERVED), {}, verify=True)
    assert site.models["net@1.0.0"].card.server == Server(name="triton", model="net", version="1")


def test_two_pipelines_may_share_neither_name_nor_ae_title(tmp_path: Path) -> None:
    root = whole(tmp_path)
    write(root, {"pipelines/twice.yaml": PIPELINE})
    assert faults(root) == [
        "pipelines/twice.yaml:1: pipelines/spots.yaml has the name 'bright-spots' too; "
        "expected a name of its own",
        "pipelines/twice.yaml:3: AE title SPOTS is pipeline bright-spots's too; "
        "expected one of its own",
    ]


def test_an_overlay_changes_what_differs(tmp_path: Path) -> None:
    root = whole(tmp_path)
    overlay = "dicom: {port: 104}\ndestinations:\n  PACS: {with: {host: pacs}}\n"
    write(root, {"environments/production.yaml": overlay})
    site = load(root, {"OVERREAD_ENV": "production"})
    assert site.settings.dicom.port == 104
    assert site.settings.destinations["PACS"].with_ == {"host": "pacs", "port": 11113}
    assert site.settings.site.environment == "production"
    assert load(root, {}).settings.dicom.port == 11112
    assert faults(root, {"OVERREAD_ENV": "prodution"}) == [
        "environments/prodution.yaml:0: OVERREAD_ENV is 'prodution', but there is no such file; "
        "expected an existing environment, perhaps production"
    ]
    assert "OVERREAD_ENV is '../x'" in faults(root, {"OVERREAD_ENV": "../x"})[0]
    write(root, {"environments/production.yaml": "\ndicom: {prt: 104}\n"})
    assert faults(root, {"OVERREAD_ENV": "production"}) == [
        "environments/production.yaml:2: unknown key dicom.prt; expected an existing key, "
        "perhaps port"
    ]


def test_secrets_are_resolved_and_never_shown(tmp_path: Path) -> None:
    text = MAIN + "database: postgresql://o:${env:PASSWORD}@db/o\ndicom: {port: '${file:port}'}\n"
    root = whole(tmp_path, main=text)
    (root / "port").write_text("104\n")
    site = load(root, {"PASSWORD": "hunter2"})
    assert site.settings.database_url == "postgresql://o:hunter2@db/o"
    assert site.settings.dicom.port == 104
    assert "hunter2" not in repr(site.settings)
    (root / "port").write_text("hunter3")
    told = faults(root)
    assert [line.split(";")[0] for line in told] == [
        "overread.yaml:4: the environment variable PASSWORD is not set",
        "overread.yaml:5: dicom.port: what its reference stands for does not fit (int_parsing)",
    ]
    secret = "dicom: {ae_title: '${env:TITLE}'}\nportal: {host: '${env:TITLE}'}\n"
    long = "a secret that is no AE title"
    told = faults(whole(tmp_path / "two", main=MAIN + secret), {"TITLE": long})
    assert told
    assert long not in "\n".join(told)


def test_routes_are_read_alone(tmp_path: Path) -> None:
    root = whole(tmp_path, model="nonsense", pipeline=PIPELINE.replace("threshold", "treshold"))
    assert [route.name for route in load_routes(root, {})] == ["spots"]
    write(root, {"overread.yaml": "nonsense"})
    assert [route.name for route in load_routes(root, {})] == ["spots"]
    write(root, {"routes.yaml": ROUTES.replace("Modality", "Modalty")})
    with pytest.raises(SiteError, match=r"routes\.yaml:3"):
        load_routes(root, {})
    (root / "routes.yaml").unlink()
    with pytest.raises(SiteError, match="has no routes"):
        load_routes(root, {})
