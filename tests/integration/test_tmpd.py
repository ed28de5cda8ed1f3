from tests.integration.test_types import *  # noqa
import time, cProfile, pstats
def test_q(pair, monkeypatch):
    orig = Pair.command
    def command(self, name, table, *options):
        from hyperfill.prepare import prepare
        from hyperfill.spec import Spec
        pr=cProfile.Profile(); pr.enable()
        prepare(Spec(self.source_conninfo,self.target_conninfo,table,END[1]),1)
        pr.disable(); pstats.Stats(pr).sort_stats("cumulative").print_stats(25)
        return orig(self,name,table,*options)
    monkeypatch.setattr(Pair,"command",command)
    test_lossy_casts_are_refused_before_anything_is_deleted(pair)
