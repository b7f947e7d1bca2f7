"""The files of Gambit: extensive games (`.efg`) and strategic games (`.nfg`), read and written."""
