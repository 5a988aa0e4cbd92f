# This target looks at the page of bireal-live in a browser.

BROWSER := _build/browser

.PHONY: test-browser

test-browser: $(VENV)/built $(BROWSER)/installed ## the live page in headless Chromium; screenshots in _build/browser. Takes Debian's chromium
	PYTHONPATH=$(BROWSER)/packages $(BIN)/pytest tests/acceptance/browser

$(BROWSER)/installed: tools/browser/requirements.txt | $(VENV)/installed
	rm -rf $(BROWSER)/packages
	$(BIN)/pip install --quiet --target $(BROWSER)/packages --requirement $<
	@touch $@
