"""Finding libtorch, and living beside an imported torch. python test_torch.py"""

import importlib.util
import os
import pathlib
import subprocess
import sys
import unittest

# A script's own folder comes first, and holds the sources of the package beside this file.
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != HERE]

import pensive  # noqa: E402
from pensive import _build  # noqa: E402

REASONER = pathlib.Path(__file__).resolve().parents[2] / "examples" / "reasoner"
HAS_MODEL = (REASONER / "model.safetensors").exists()
PACKAGES = pathlib.Path(pensive.__file__).resolve().parents[1]


class WithoutTorch(unittest.TestCase):
    @unittest.skipUnless(os.path.isdir(_build.TORCH_FOLDER), "the torch of the build is gone")
    @unittest.skipIf((PACKAGES / "torch").exists(), "torch is installed beside pensive")
    def test_takes_the_torch_of_the_build_where_none_can_be_imported(self):
        program = ("import importlib.util, pensive; assert not importlib.util.find_spec('torch');"
                   "assert pensive.same_answer('1', '1.0')")
        done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True,
                              env={"PYTHONPATH": str(PACKAGES)})
        self.assertEqual(done.returncode, 0, done.stderr)


@unittest.skipUnless(importlib.util.find_spec("torch"), "there is no torch to import")
class BesideTorch(unittest.TestCase):
    def run_python(self, program):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    USE = "assert torch.ones(2).sum() == 2; assert pensive.same_answer('1', '1.0');"

    def test_does_not_import_torch(self):
        self.assertEqual(
            self.run_python("import pensive, sys; print('torch' in sys.modules)"), "False")

    def test_torch_first(self):
        self.run_python("import torch, pensive;" + self.USE)

    def test_torch_after(self):
        self.run_python("import pensive, torch;" + self.USE)

    @unittest.skipUnless(HAS_MODEL, "there is no model")
    def test_training_inside_no_grad(self):
        self.run_python(
            "import torch, pensive\n"
            "with torch.inference_mode():\n"
            f"    model = pensive.Model.load({str(REASONER)!r}, device='cpu')\n"
            "    soft = pensive.SoftVocab(model)\n"
            "    row = soft.add('again', model.tokenizer.encode('Wait, '))\n"
            "    engine = pensive.Engine(model, soft=soft, cache_tokens=4096)\n"
            "    guides = [pensive.continue_thinking([row])]\n"
            "    trainer = pensive.Trainer(engine, soft, row, lambda p, r: r.think_tokens % 2,\n"
            "        rollout=dict(guides=guides, max_new_tokens=64), group_size=4)\n"
            "    trainer.step([pensive.Problem('1 + 2', '3')])\n"
            "    assert torch.is_inference_mode_enabled()\n")

    @unittest.skipUnless(HAS_MODEL, "there is no model")
    def test_leaves_torch_as_it_was(self):
        self.run_python(
            "import torch, pensive\n"
            "def state():\n"
            "    return (torch.is_grad_enabled(), torch.is_inference_mode_enabled(),\n"
            "            torch.get_default_dtype(), torch.get_num_threads(),\n"
            "            torch.get_num_interop_threads(), torch.get_rng_state().tolist(),\n"
            "            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32,\n"
            "            torch.get_float32_matmul_precision(), torch.is_autocast_enabled('cpu'),\n"
            "            torch.are_deterministic_algorithms_enabled())\n"
            "torch.manual_seed(5); torch.set_default_dtype(torch.float64); torch.set_num_threads(1)\n"
            "torch.set_float32_matmul_precision('high')\n"
            "before = state()\n"
            f"model = pensive.Model.load({str(REASONER)!r}, device='cpu')\n"
            "assert state() == before, 'load'\n"
            "soft = pensive.SoftVocab(model)\n"
            "row = soft.add('again', model.tokenizer.encode('Wait, '))\n"
            "engine = pensive.Engine(model, soft=soft, cache_tokens=4096)\n"
            "one = engine.start(prompt='1 + 2', max_new_tokens=20)\n"
            "engine.step(); one.fork().feed([row]); one.rewind(1); engine.finish(one)\n"
            "engine.score([5, 6], [7])\n"
            "assert state() == before, 'engine'\n"
            "with pensive.Server(engine) as server:\n"
            "    assert server.submit(prompt='1 + 2', max_new_tokens=20).wait()\n"
            "assert state() == before, 'server'\n"
            "trainer = pensive.Trainer(engine, soft, row, lambda p, r: r.think_tokens % 2,\n"
            "    rollout=dict(guides=[pensive.continue_thinking([row])], max_new_tokens=64),\n"
            "    group_size=4)\n"
            "trainer.step([pensive.Problem('1 + 2', '3')])\n"
            "assert state() == before, 'trainer'\n")


if __name__ == "__main__":
    unittest.main()
