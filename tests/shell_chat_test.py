"""`pensive chat`, in a pipe and on a terminal. shell_chat_test.py COMMAND MODEL [unittest arguments]"""
import os
import pty
import re
import select
import signal
import time

from shell_door import COMMAND, MODEL, QUESTION, ShellTest, answer, main, run


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, *arguments):
        self.text = ""
        self.process, self.end = pty.fork()
        if self.process == 0:
            os.execv(COMMAND, [COMMAND, *map(str, arguments)])

    def read(self):
        ready, _, _ = select.select([self.end], [], [], 0.1)
        try:
            data = os.read(self.end, 65536) if ready else b""
        except OSError:  # it has left
            return False
        self.text += data.decode(errors="replace")
        return True

    def until(self, pattern, seconds=120):
        """What was printed up to and with the first match; it is used up."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text, re.S)):
            if time.monotonic() > end or not self.read():
                raise AssertionError(f"expected {pattern!r}; found {self.text!r}")
        taken, self.text = self.text[:found.end()], self.text[found.end():]
        return taken

    def type(self, text):
        os.write(self.end, text.encode())

    def wait(self, seconds=60):
        end = time.monotonic() + seconds
        while self.read():
            if time.monotonic() > end:
                raise AssertionError(f"expected the command to leave; found {self.text!r}")
        self.process, left = 0, self.process
        return os.waitpid(left, 0)[1]

    def close(self):
        if self.process:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        os.close(self.end)


class Chat(ShellTest):
    def terminal(self, *arguments):
        opened = Terminal(*arguments)
        self.addCleanup(opened.close)
        return opened

    def test_chat_in_a_pipe(self):
        out = run("chat", "-m", MODEL, "--device", "cpu", "--temp", 0, stdin=f"{QUESTION}\n\n/nothing\n/reset\n{QUESTION}")
        whole = answer()
        said = f"{whole['reasoning_content']}{whole['content']}\n"
        self.assertEqual(out.stdout, f"{said}(a new conversation)\n{said}")
        self.assertNotIn("> ", out.stdout)
        self.assertIn("/nothing", out.stderr)

    def test_chat_on_a_terminal(self):
        chat = self.terminal("chat", "-m", MODEL, "--device", "cpu", "--temp", 0)
        chat.until("/exit.*> ")
        chat.type(QUESTION + " \\\n")
        chat.until("… ")
        chat.type("\n")
        said = chat.until("\n> ")
        self.assertIn("\033[2mSo", said)  # thinking is dim
        self.assertTrue(said.endswith(f"\n\033[0m{answer()['content']}\r\n> "), said)
        chat.type("\003")  # at the prompt: a hint, and the program stays
        chat.until("/exit leaves.*> ")
        chat.type("/reset\n")
        chat.until("new conversation.*> ")
        chat.type("/exit\n")
        self.assertEqual(chat.wait(), 0)

    def test_interrupting_stops_the_answer_only(self):
        chat = self.terminal("chat", "-m", MODEL, "--device", "cpu", "--temp", 0, "--ignore-eos", "-n", 900)
        chat.until("> ")
        chat.type("1 + 2\n")
        chat.until("So|=|\\d\\d")  # the answer has begun
        chat.type("\003")
        chat.until("cancelled.*> ")
        chat.type("\004")
        self.assertEqual(chat.wait(), 0)


if __name__ == "__main__":
    main()
