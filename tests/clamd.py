"""A real clamd for tests, and the file that every scanner knows."""
from realserver import RealServer

# In two pieces, so that no scanner takes this file for the one it describes.
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


class Clamd(RealServer):
    def __init__(self, folder, *options):
        super().__init__("clamd", folder, *options)
