# These targets write the documentation site and the models' cards.

DOCS := _build/docs_venv

.PHONY: docs cards

# Zensical reads mkdocs.yml; --strict makes its warnings errors, such as a link to nowhere.
docs: $(DOCS)/installed ## the documentation site, in _build/site
	$(DOCS)/bin/python tools/docs/docs_site.py _build/docs
	$(DOCS)/bin/zensical build --clean --strict
	@echo "_build/site/index.html"

cards: $(VENV)/built ## write docs/models from the models themselves
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python tools/model_cards.py

$(DOCS)/installed: tools/docs/requirements.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install --quiet --requirement $<
	@touch $@
