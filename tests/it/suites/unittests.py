"""Runs the unit tests in the package `tests` of the current folder, or some of its
modules, and prints one line for each: name, tabulator, outcome."""

import importlib
import os
import sys
import unittest


class Outcomes(unittest.TextTestResult):
    """Prints an outcome as soon as it is there, with what failed in it."""

    def say(self, test, outcome):
        self.said = True
        print(f"{test.id().removeprefix('tests.')}\t{outcome}", flush=True)

    def startTest(self, test):
        super().startTest(test)
        self.said = False

    def addSuccess(self, test):
        super().addSuccess(test)
        self.say(test, "passed")

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.say(test, "failed")
        print(self.failures[-1][1], file=sys.stderr)

    def addError(self, test, error):
        super().addError(test, error)
        self.say(test, f"error {error[0].__name__}")
        print(self.errors[-1][1], file=sys.stderr)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.say(test, "failed")
            print(self.errors[-1:], self.failures[-1:], file=sys.stderr)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.say(test, "skipped")

    def addExpectedFailure(self, test, error):
        super().addExpectedFailure(test, error)
        self.say(test, "failed as expected")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.say(test, "passed unexpectedly")


def modules():
    """The modules that are asked for, or all there are."""
    asked = sys.argv[1:]
    files = sorted(os.listdir("tests"))
    return asked or [f[:-3] for f in files if f.startswith("test_") and f.endswith(".py")]


sys.path.insert(0, os.getcwd())
suite = unittest.TestSuite()
for name in modules():
    suite.addTests(unittest.defaultTestLoader.loadTestsFromName(f"tests.{name}"))
unittest.TextTestRunner(stream=sys.stderr, resultclass=Outcomes, verbosity=0).run(suite)
# Threads that a test has left behind would hold the process.
sys.stdout.flush()
os._exit(0)
