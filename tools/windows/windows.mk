# This target runs the delegate's random graphs as a program for Windows, under wine. The compiler is
# the wheels', at the wheels' optimization.

WINDOWS := _build/windows
WINDOWS_CXX := $(WHEELS)/tools/bin/python -m ziglang c++ -target x86_64-windows-gnu

.PHONY: test-windows

test-windows: $(WINDOWS)/driver.exe ## the delegate's random graphs as a Windows program, under wine
	@command -v wine > /dev/null || { echo "make: it takes wine: apt install wine64 wine" >&2; exit 1; }
	WINEPREFIX=$(CURDIR)/$(WINDOWS)/wine WINEDEBUG=-all wine $< 300

$(WINDOWS)/driver.exe: $(patsubst %.cc,$(WINDOWS)/%.o,$(call TESTING,naive driver))
	$(WINDOWS_CXX) -s $^ -o $@

$(WINDOWS)/%.o: %.cc $(filter %.h,$(DELEGATE)) $(WHEELS)/tools/installed
	@mkdir -p $(@D)
	ZIG_GLOBAL_CACHE_DIR=$(CURDIR)/$(WHEELS)/zig \
	    $(WINDOWS_CXX) $(TESTING_FLAGS) -O3 -g0 -c $< -o $@
