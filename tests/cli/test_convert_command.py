"""``convert``: what it prints, its exit codes, and that it unpickles nothing."""

import pickle


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit(77)",)


def test_a_pickle_is_one_line_and_exit_code_2(run, capfd, tmp_path):
    weights = tmp_path / "w.h5"
    weights.write_bytes(pickle.dumps(Bomb()))
    assert run("convert", weights, "--out", tmp_path / "encoder") == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.startswith(f"error: {weights}: is no HDF5 file")
    assert not (tmp_path / "encoder").exists()


def test_a_head_replaces_layers_and_the_folder_loads(run, capfd, shared_reference, tmp_path):
    weights = (shared_reference / f"weights/{name}.h5" for name in ("gvlad_k8_g2_b512", "avg_b512"))
    assert run("convert", *weights, "--out", tmp_path / "encoder") == 0
    told = f"thin_resnet34, avg, 512 dimensions: {tmp_path / 'encoder'}\n"
    assert capfd.readouterr().err == told
    from speakervlad.encoder.encoder import load_encoder

    vector = load_encoder(tmp_path / "encoder", device="cpu").embed(
        shared_reference / "wav/x_3.wav"
    )
    assert vector.shape == (512,)


def test_help_names_every_toolkit(run, capfd):
    from speakervlad.checkpoints.readers import READERS

    assert run("convert", "--help") == 0
    shown = capfd.readouterr().out
    assert [name for name in READERS if name not in shown] == []


def test_a_toolkit_that_is_not_known_or_not_the_files(run, capfd, tmp_path):
    weights = tmp_path / "w.ckpt"
    weights.write_bytes(pickle.dumps(Bomb()))
    for toolkit, words in (("speechbran", "speechbrain"), ("speechbrain", "without running code")):
        assert run("convert", weights, "--from", toolkit, "--out", tmp_path / "encoder") == 2
        shown = capfd.readouterr().err
        assert shown.count("\n") == 1
        assert words in shown
    assert not (tmp_path / "encoder").exists()


def test_no_command_hides_another():
    from speakervlad.cli import app

    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert len(names) == len(set(names))
