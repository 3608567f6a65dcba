"""Does the profile fit this cluster, and how does a run go on whose driver was killed?"""
