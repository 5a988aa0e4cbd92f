# These targets convert models of PyTorch by way of litert-torch, which gets an environment of its own.

TORCH := _build/torch
# The package itself is taken from here, with the library that the project's environment has built.
TORCH_PYTHON := PYTHONPATH=$(CURDIR):$(CURDIR)/tests/helpers $(TORCH)/venv/bin/python

.PHONY: test-torch record-torch

test-torch: $(TORCH)/venv/installed $(VENV)/built ## PyTorch models, from the module to the runtime
	$(TORCH_PYTHON) -m pytest tests/acceptance/torch

record-torch: $(TORCH)/venv/installed $(VENV)/built ## tests/export/torch_files anew, by this litert-torch
	$(TORCH_PYTHON) tools/torch/record.py tests/export/torch_files

# Two gigabytes, and five where pip finds no build of PyTorch for CPUs only.
$(TORCH)/venv/installed: tools/torch/requirements.txt
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	@echo "Installing PyTorch and litert-torch into $(@D), once."
	$(@D)/bin/pip install --quiet --requirement $<
	@touch $@
