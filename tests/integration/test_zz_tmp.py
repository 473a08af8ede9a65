import sys; sys.path.insert(0,'/work/main')
from tests.integration.test_become import *
def test_x(make_account):
    account, other = make_account(sudo="password", sudo_defaults=["use_pty"]), make_account()
    got = enter(account, "su", exe="sudo su -", user=other.name, password=account.password, size=1 << 12,timeout=5)
    print(got)
    got = enter(account, "su", exe="sudo su -", user=other.name, password=account.password, size=1 << 20,timeout=5)
    print(got)
