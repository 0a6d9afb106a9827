"""Who is on this picture?"""
