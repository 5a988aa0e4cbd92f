# This target compares with Larq Zoo, which gets an environment of its own.

PEERS := _build/peers

.PHONY: test-peers

# The first time, larq-zoo's models are exported there, which takes ten minutes.
test-peers: $(PEERS)/models/made $(PEERS)/larq_zoo/made ## larq-zoo's models on the delegate, its weights in ours
	$(BIN)/pytest tests/acceptance/peers

$(PEERS)/venv/installed: tools/peers/requirements.txt | $(VENV)/installed
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	@echo "Installing larq-zoo and its TensorFlow into $(@D), once."
	$(@D)/bin/pip install --quiet --requirement $<
	@touch $@

# Its models do without what it declares to need, so it also runs beside our TensorFlow.
$(PEERS)/larq_zoo/made: $(VENV)/built
	rm -rf $(@D)
	$(BIN)/pip install --quiet --no-deps --target $(@D) \
	    larq-zoo==2.4.0 zookeeper==1.4.0 typeguard==4.6.1 click==8.5.1
	@touch $@

# Models that are there and not out of date are those of a run that was interrupted: they stay.
$(PEERS)/models/made: tools/peers/export.py $(PEERS)/venv/installed
	@test ! -e $@ || rm -r $(@D)
	TF_CPP_MIN_LOG_LEVEL=3 $(PEERS)/venv/bin/python $< $(@D)
	@touch $@
