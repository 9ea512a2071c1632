from upweight.testing import BackendConformance


class TestAutograd(BackendConformance):
    backend = "autograd"
