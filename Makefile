# One virtual environment, set up on first use from exact versions. Everything below works on a fresh machine
# with Python 3.11 or later, make and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEV := $(VENV)/.ready-dev

.PHONY: demo test lint results bench clean

demo: $(READY)  ## the main job, on data that ships with scikit-learn: under two minutes
	$(BIN)/neuropil compare digits

test: $(DEV)  ## all tests, docstring and README examples included
	$(BIN)/pytest -n auto --dist worksteal

lint: $(DEV)  ## format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

results: $(READY)  ## make the tables in results/ again, from data under NEUROPIL_DATA; takes days
	for recipe in digits fashion-mnist cifar-10 rewiring-digits rewiring-fashion-mnist rewiring-hebbian \
			rewiring-interval sparse-training spiking-digits spiking-rewiring-digits spiking-fashion-mnist spiking-p-inter \
			spiking-rewiring-fashion-mnist spiking-cifar-10 emergence-pruning emergence-ensembles; do \
		$(BIN)/neuropil compare $$recipe && cp runs/$$recipe/results.csv results/$$recipe.csv || exit 1; \
	done
	for depth in 4 8; do for optimizer in adam sgd; do \
		[ $$depth = 4 ] && hidden='[64,64,64]' || hidden='[64,64,64,64,64,64,64]'; \
		$(BIN)/neuropil compare emergence-$$optimizer name=emergence-digits-$$depth-$$optimizer hidden=$$hidden && \
			cp runs/emergence-digits-$$depth-$$optimizer/results.csv results/emergence-digits-$$depth-$$optimizer.csv || exit 1; \
	done; done
	for recipe in counter-current-mnist rules-mnist rules-ensembles e-prop-digits emergence-cifar-10; do \
		$(BIN)/neuropil compare $$recipe && cp runs/$$recipe/results.csv results/$$recipe.csv || exit 1; \
	done
	name=counter-current-mnist-40; $(BIN)/neuropil compare counter-current-mnist name=$$name epochs=40 && \
		cp runs/$$name/results.csv results/$$name.csv
	name=rules-cifar-10-narrow; $(BIN)/neuropil compare rules-cifar-10 name=$$name epochs=2 seeds=1 \
		convolutions='[16,16,32,32,64]' && cp runs/$$name/results.csv results/$$name.csv
	name=rules-fashion-mnist; $(BIN)/neuropil compare rules-mnist name=$$name data.name=fashion-mnist && \
		cp runs/$$name/results.csv results/$$name.csv
	for optimizer in adam sgd; do \
		$(BIN)/neuropil compare emergence-$$optimizer name=emergence-fashion-mnist-4-$$optimizer data.name=fashion-mnist \
			hidden='[128,128,128]' epochs=5 batch_size=128 seeds=3 && \
			cp runs/emergence-fashion-mnist-4-$$optimizer/results.csv results/emergence-fashion-mnist-4-$$optimizer.csv || exit 1; \
	done
	for optimizer in adam sgd; do \
		[ $$optimizer = adam ] && rates='[0.0003, 0.001]' && profiles='[1.25, 1.6]' || { rates='[0.01, 0.03]'; profiles='[1.6, 2.5]'; }; \
		name=emergence-fashion-mnist-8-$$optimizer; \
		$(BIN)/neuropil compare emergence-$$optimizer name=$$name data.name=fashion-mnist epochs=5 batch_size=128 seeds=3 \
			hidden='[128,128,128,128,128,128,128]' "arms.base.tune={training.learning_rate: $$rates}" \
			'arms.emergence.sweep={start.total_ratio: [4.0]}' "arms.emergence.tune={training.learning_rate: $$rates}" \
			"arms.rates.tune={training.rate_profile: $$profiles, training.learning_rate: $$rates}" && \
			cp runs/$$name/results.csv results/$$name.csv || exit 1; \
	done
	name=emergence-cifar-10-batch-norm; rates='{training.learning_rate: [0.001, 0.003]}'; \
		$(BIN)/neuropil compare emergence-cifar-10 name=$$name batch_norm=true "arms.base.tune=$$rates" \
			"arms.emergence.tune=$$rates" \
			'arms.rates.tune={training.rate_profile: [1.6], training.learning_rate: [0.001, 0.003]}' && \
			cp runs/$$name/results.csv results/$$name.csv
	name=spiking-cifar-10-short; $(BIN)/neuropil compare spiking-cifar-10 name=$$name hidden='[512,512,512]' spiking.steps=20 \
		epochs=5 && cp runs/$$name/results.csv results/$$name.csv
	$(BIN)/python examples/dynamic_pruning.py digits results/dynamic-pruning-digits.csv
	$(BIN)/python examples/dynamic_pruning.py fashion-mnist results/dynamic-pruning-fashion-mnist.csv --images 3000

bench: $(DEV)  ## time layers, networks, events, rewiring, neurons, sheer size, measures and rules of learning
	$(BIN)/neuropil bench

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

# beside it, all that tests and checks need: the extras, other libraries to compare with
$(DEV): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
