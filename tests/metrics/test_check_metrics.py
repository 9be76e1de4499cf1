#!/usr/bin/env python3
"""Shows that check_metrics.py sees each kind of fault, and none in a document without."""

import unittest

from check_metrics import OWN, REQUIRED, faults_of, faults_of_rising, faults_since

LABELS = {
    OWN + "build_info": ['version="1.2.3"'],
    OWN + "source_up": ['source="demo"'],
    OWN + "source_losses_total": ['source="demo"'],
    OWN + "subscribers": ['stream="raw"', 'stream="eps"'],
    OWN + "connections_closed_total": ['reason="client"', 'reason="slow"'],
    OWN + "replays_total": ['result="served"', 'result="refused"'],
    OWN + "messages_dropped_total": ['cause="encoding"', 'cause="relay"'],
    OWN + "delivery_seconds": ['stream="raw"', 'stream="eps"'],
}


def good_document():
    lines = []
    for name, type_ in REQUIRED.items():
        lines += [f"# HELP {name} Words.", f"# TYPE {name} {type_}"]
        for label in LABELS.get(name, [""]):
            own = f"{{{label}}}" if label else ""
            if type_ != "histogram":
                lines.append(f"{name}{own} 18446744073709551615")
                continue
            before = label and label + ","
            for bound, count in [("0.0001", 1), ("0.017", 1), ("1", 3), ("+Inf", 4)]:
                lines.append(f'{name}_bucket{{{before}le="{bound}"}} {count}')
            lines += [f"{name}_sum{own} 7.017", f"{name}_count{own} 4"]
    return "\n".join(lines) + "\n"


TICK = OWN + "tick_lateness_seconds"
FRAMES = f"# HELP {OWN}frames_total Words.\n# TYPE {OWN}frames_total counter\n"

# What is replaced in the good document, by what, and words of the fault that this must be.
FAULTS = [
    (FRAMES, FRAMES.split("\n", 1)[1], "has no HELP, or no TYPE"),
    (FRAMES, FRAMES.split("\n", 1)[0] + "\n", "has no HELP, or no TYPE"),
    (FRAMES, FRAMES.split("\n", 1)[0] + "\n" + FRAMES, "a second HELP"),
    (FRAMES, FRAMES + FRAMES.split("\n", 1)[1], "a second TYPE"),
    (FRAMES, "\n".join(reversed(FRAMES.strip().split("\n"))) + "\n", "HELP behind TYPE"),
    (FRAMES, "", "a sample outside its family"),
    (f"# HELP {OWN}events", f"# HELP {OWN}frames_total W.\n# HELP {OWN}events", "behind samples"),
    (f"{TICK}_count 4", f"{TICK}_count many", "a sum or a count that is not a number"),
    (f"{OWN}log_frames 1", f"{OWN}frames_total 2\n{OWN}log_frames 1", "a sample outside its family"),
    (f"# HELP {OWN}log_frames", f"{FRAMES}{OWN}frames_total 2\n# HELP {OWN}log_frames", "comes back"),
    (f"# HELP {OWN}log_frames", f"# A comment.\n# HELP {OWN}log_frames", "neither HELP nor TYPE"),
    (f"# HELP {OWN}log_frames Words.", f"# HELP {OWN}log_frames C:\\temp", "a wrong escape"),
    (f"{OWN}log_frames gauge", f"{OWN}log_frames number", "an unknown type"),
    (f"{OWN}log_frames gauge", f"{OWN}log_frames counter", "counters, and nothing else, end in _total"),
    (f"{OWN}ticks_total counter", f"{OWN}ticks_total gauge", "counters, and nothing else, end in _total"),
    (f"{OWN}log_frames 1", f"\n{OWN}log_frames 1", "not a sample"),
    (f"{OWN}log_frames 1", f"{OWN}log_frames  1", "not a sample"),
    (f"{OWN}log_bytes 18446744073709551615", f"{OWN}log_bytes 1 1700000000000", "not a sample"),
    (f"{OWN}log_bytes 18446744073709551615", f"{OWN}log_bytes 1.8e19", "not a plain number"),
    (f"{OWN}log_bytes 18446744073709551615", f"{OWN}log_bytes NaN", "not a plain number"),
    (f"{OWN}ticks_total 18446744073709551615", f"{OWN}ticks_total -1", "not a plain number"),
    (f"{OWN}log_bytes 18446744073709551615", f"{OWN}log_bytes 1.5", "a fraction of what is counted"),
    (f"{TICK}_sum 7.017", f"{TICK}_sum 7.0169999999999995", "digits that say nothing"),
    (f"{TICK}_sum 7.017", f"{TICK}_sum 7.0170", "digits that say nothing"),
    (f"{TICK}_sum 7.017", f"{TICK}_sum 0.002", "a sum below what its buckets make"),
    ('stream="eps"} 1', 'stream="raw"} 1', "a second sample of one series"),
    ('{stream="eps"} 1', '{user_agent="curl"} 1', "the label user_agent, which is not allowed"),
    ('{stream="eps"} 1', '{stream="details/1F602"} 1', "a value of no fixed set"),
    ('{stream="eps"} 1', '{stream="eps",source="demo"} 1', "samples with different labels"),
    ('{stream="eps"} 1', '{stream="eps",stream="raw"} 1', "the label stream twice"),
    ('{stream="eps"} 1', '{stream="eps",} 1', "labels that cannot be read"),
    ('{stream="eps"} 1', '{stream="a"b"} 1', "labels that cannot be read"),
    ('{stream="eps"} 1', '{stream="eps",le="1"} 1', "le belongs to buckets"),
    (f'{TICK}_bucket{{le="+Inf"}} 4\n', "", "does not end with +Inf"),
    (f'{TICK}_bucket{{le="+Inf"}} 4', f'{TICK}_bucket{{le="+Inf"}} 5', "and its last bucket 5"),
    (f'{TICK}_bucket{{le="0.017"}} 1', f'{TICK}_bucket{{le="0.017"}} 0', "not cumulative"),
    (f'{TICK}_bucket{{le="0.017"}}', f'{TICK}_bucket{{le="0.00001"}}', "bounds that do not rise"),
    (f'{TICK}_bucket{{le="0.017"}}', f'{TICK}_bucket{{le="0.016999999"}}', "a value of no fixed set"),
    (f"{TICK}_count 4\n", "", "not made of buckets, a sum and a count"),
    ('{stream="eps",le="1"}', '{stream="eps",le="2"}', "different bounds for different labels"),
    (OWN + "log_max_bytes", OWN + "log_max_kilobytes", "not in base units"),
    (OWN + "log_max_bytes", "streamer_log_max_bytes", "has another prefix"),
    (OWN + "log_max_bytes", OWN + "log_max", "there is no family"),
    ("process_open_fds", "process_open_descriptors", "none of the metrics that all processes have"),
]


class Check(unittest.TestCase):
    def test_a_good_document_has_no_faults(self):
        text = good_document()
        faults, series = faults_of(text, text.encode(), [f"{OWN}frames_total 18446744073709551615"])
        self.assertEqual(faults, [])
        self.assertEqual(len(series), 29 + 3 * 6)

    def test_each_fault_is_seen(self):
        for old, new, words in FAULTS:
            with self.subTest(old=old, new=new):
                text = good_document()
                self.assertIn(old, text)
                text = text.replace(old, new)
                faults, _ = faults_of(text, text.encode())
                self.assertTrue(any(words in fault for fault in faults), faults)

    def test_the_end_of_the_last_line_is_missed(self):
        text = good_document().rstrip("\n")
        faults, _ = faults_of(text, text.encode())
        self.assertIn("the document does not end with a line end", faults)

    def test_a_line_that_should_be_there_is_missed(self):
        text = good_document()
        faults, _ = faults_of(text, text.encode(), ["a 1"])
        self.assertEqual(faults, ["there is no line a 1"])

    def test_totals_only_rise(self):
        earlier = {
            "a_total[]": ("counter", "18446744073709551614"),
            "b[]": ("gauge", "5"),
            "c_sum[]": ("histogram", "5.000001"),
            "d_total[]": ("counter", "5"),
        }
        later = {
            "a_total[]": ("counter", "18446744073709551613"),
            "b[]": ("gauge", "4"),
            "c_sum[]": ("histogram", "5"),
        }
        self.assertEqual(
            sorted(faults_since(earlier, later)),
            [
                "a_total[] went down, from 18446744073709551614 to 18446744073709551613",
                "c_sum[] went down, from 5.000001 to 5",
                "d_total[] was there before and is missing",
            ],
        )
        self.assertEqual(faults_since(earlier, earlier), [])
        rising = {**earlier, "a_total[]": ("counter", "18446744073709551615")}
        self.assertEqual(faults_of_rising(["a_total"], earlier, rising), [])
        self.assertEqual(
            faults_of_rising(["d_total", "e_total"], earlier, rising),
            ["d_total did not rise from 5", "e_total is not there to rise"],
        )


if __name__ == "__main__":
    unittest.main()
